// The generic kernels run by the host executor, launched as the plugins launch them.
#pragma once

#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/host/executor.hpp"
#include "plugins/moira_plugin.h"

namespace moira {

struct e4m3_blocks_args;
struct sample_args;

struct smxx_on_host {
    const simt_config& config;
    simt_memory& memory;
    step_error_slot* errors = nullptr;

    simt_report run(const moira_embedding_desc& desc, const moira_embedding_args& args) const;
    simt_report run(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args) const;
    simt_report run(const moira_rope_desc& desc, const moira_rope_args& args) const;
    simt_report run(const moira_kv_append_desc& desc, const moira_kv_append_args& args) const;
    simt_report run(const moira_router_topk_desc& desc, const moira_router_topk_args& args) const;
    simt_report run(const moira_combine_desc& desc, const moira_combine_args& args) const;
    simt_report run(const moira_expert_groups_desc& desc, const moira_expert_groups_args& args) const;
    simt_report quantize(const e4m3_blocks_args& args) const;
    simt_report dequantize(const e4m3_blocks_args& args) const;
    simt_report sample(const sample_args& args) const;
};

} // namespace moira
