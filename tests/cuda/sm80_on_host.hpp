// The sm_80 kernels run by the host executor, launched as the plugins launch them.
#pragma once

#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/host/executor.hpp"
#include "kernels/cuda/sm80/sm80_kernels.hpp"

namespace moira {

// Stops at the first kernel with a finding. tile_rows: 8, 32 or 128, or 0 for what the launch would take.
simt_report run_sm80_expert_ffn(const moira_expert_ffn_desc& desc, const moira_expert_ffn_args& args,
                                const cuda_launch& launch, const simt_config& config, simt_memory& memory,
                                uint32_t tile_rows);
// For one launch of `pairs` pairs with tiles of `tile_rows`.
uint64_t sm80_expert_ffn_bytes(const moira_expert_ffn_desc& desc, uint32_t groups, uint32_t pairs, uint32_t tile_rows);

simt_report run_sm80_gemm(const moira_gemm_desc& desc, const moira_gemm_args& args, const simt_config& config,
                          simt_memory& memory, uint32_t tile_rows);

// How a launch shares out its rows' positions.
struct attention_split_choice {
    uint32_t split_tokens; // a multiple of 32
    bool shared_out;
};
inline constexpr attention_split_choice planned_split{0, false}; // as the launch would take it
simt_report run_sm80_attention(const moira_attention_gqa_desc& desc, const moira_attention_args& args,
                               const cuda_launch& launch, const simt_config& config, simt_memory& memory,
                               attention_split_choice choice);
simt_report run_sm80_attention(const moira_attention_mla_desc& desc, const moira_attention_args& args,
                               const cuda_launch& launch, const simt_config& config, simt_memory& memory,
                               attention_split_choice choice);
uint64_t sm80_attention_bytes(const moira_attention_gqa_desc& desc, uint32_t rows, attention_split_choice choice);
uint64_t sm80_attention_bytes(const moira_attention_mla_desc& desc, uint32_t rows, attention_split_choice choice);

} // namespace moira
