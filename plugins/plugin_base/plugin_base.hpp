// What every plugin of this project does alike, whatever its device: remembers its last error, checks descriptors, and
// lays weights out. No device calls, no threads, no globals but the calling thread's last error.
#pragma once

#include "kernels/cpu_kernels.hpp"

namespace moira {

union any_op_desc {
    moira_op_header header;
    moira_embedding_desc embedding;
    moira_rmsnorm_desc rmsnorm;
    moira_rope_desc rope;
    moira_kv_append_desc kv_append;
    moira_attention_gqa_desc attention_gqa;
    moira_attention_mla_desc attention_mla;
    moira_gemm_desc gemm;
    moira_router_topk_desc router_topk;
    moira_expert_ffn_desc expert_ffn;
    moira_combine_desc combine;
    moira_expert_groups_desc expert_groups;
};

// What a plugin has kernels for, as far as descriptors can ask.
struct op_capabilities {
    const char* name;
    bool kv_bf16_supported; // F32 always is
    bool (*weight_supported)(const moira_quantization& quantization);
    bool gemm_library_supported = false; // MOIRA_COMPUTE_LIBRARY
};

// Remembers a message for last_error and returns the code.
moira_status report(moira_status code, const char* format, ...) __attribute__((format(printf, 2, 3)));
void copy_last_error(char* text, uint64_t bytes);

// Checks struct_size, op and every dimension; copies the descriptor. OK, UNSUPPORTED or INVALID_ARGUMENT.
moira_status check_op(const op_capabilities& plugin, const moira_op_header* header, any_op_desc& desc);

// pack_query, pack and unpack of moira_plugin.h, for a plugin that lays one matrix out as `packing` does.
moira_status query_packing(const op_capabilities& plugin, const packing_kernels& packing, const moira_pack_desc* desc,
                           moira_pack_info* info);
moira_status pack_weights(const op_capabilities& plugin, const packing_kernels& packing, const moira_pack_desc* desc,
                          const moira_pack_source* sources, void* packed);
moira_status unpack_weights(const op_capabilities& plugin, const packing_kernels& packing, const moira_pack_desc* desc,
                            const void* packed, void* const* weights);

} // namespace moira
