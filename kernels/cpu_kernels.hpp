// What a CPU plugin is made of: one function per op, which computes one member's share of the work. Raw pointers and
// PODs only; no threads, no allocation, no errors (whoever calls has checked everything, see op_plan.hpp).
#pragma once

#include "plugins/moira_plugin.h"

namespace moira {

// One member's part of one phase of an op: units [begin, end) in the numbering of op_plan.hpp.
struct work_share {
    uint32_t phase;
    uint64_t begin;
    uint64_t end;
    float* shared;  // one per launch, op_plan's shared_bytes, 64-byte aligned
    float* scratch; // one per member, op_plan's scratch_bytes, 64-byte aligned
};

// Sizes and addresses of packed weights. Packing moves bytes only, so that it can be undone.
struct packing_kernels {
    uint32_t layout_base; // high byte of layout_id; see packed_layout.hpp
    // Bytes of one packed matrix [n, k] with its scales, a multiple of 64.
    uint64_t (*matrix_bytes)(const moira_quantization& quantization, uint32_t n, uint32_t k);
    // weight: element (row, column) lies at row * row_stride + column * column_stride elements.
    void (*pack_matrix)(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* weight,
                        uint64_t row_stride, uint64_t column_stride, const void* scales, void* packed);
    void (*unpack_matrix)(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* packed,
                          void* weight, uint64_t row_stride, uint64_t column_stride);
};

struct cpu_kernels {
    const char* name;
    const char* requirement; // what the processor must have, in words
    const char* numerics_id;
    int32_t score;
    uint32_t features_required; // MOIRA_CPU_*
    uint32_t kv_type_wanted = MOIRA_TYPE_F32; // of keys and values: what suits the kernels best
    bool kv_bf16_supported = false;           // F32 always is
    bool (*weight_supported)(const moira_quantization& quantization);
    packing_kernels packing;
    void (*embedding)(const moira_embedding_desc&, const moira_embedding_args&, const work_share&);
    void (*rmsnorm)(const moira_rmsnorm_desc&, const moira_rmsnorm_args&, const work_share&);
    void (*rope)(const moira_rope_desc&, const moira_rope_args&, const work_share&);
    void (*kv_append)(const moira_kv_append_desc&, const moira_kv_append_args&, const work_share&);
    void (*attention_gqa)(const moira_attention_gqa_desc&, const moira_attention_args&, const work_share&);
    void (*attention_mla)(const moira_attention_mla_desc&, const moira_attention_args&, const work_share&);
    void (*gemm)(const moira_gemm_desc&, const moira_gemm_args&, const work_share&);
    void (*router_topk)(const moira_router_topk_desc&, const moira_router_topk_args&, const work_share&);
    void (*expert_ffn)(const moira_expert_ffn_desc&, const moira_expert_ffn_args&, const work_share&);
    void (*combine)(const moira_combine_desc&, const moira_combine_args&, const work_share&);
    void (*expert_groups)(const moira_expert_groups_desc&, const moira_expert_groups_args&, const work_share&);
};

} // namespace moira
