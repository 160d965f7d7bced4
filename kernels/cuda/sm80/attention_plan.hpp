// From the ABI's descriptors and arguments to the kernels of attention: the same for a GPU and for the host executor.
#pragma once

#include "kernels/cuda/sm80/attention_kernels.hpp"
#include "kernels/cuda/sm80/gemm_plan.hpp"

#include <algorithm>

namespace moira {

// How positions are split, and where a launch keeps what its kernels hand to each other. Offsets in the workspace.
struct attention_plan {
    uint32_t split_tokens; // depends on the descriptor only, as the bits do
    uint32_t splits;       // of the longest context
    uint32_t head_blocks;
    bool shared_out; // splits are computed by several blocks at once
    uint64_t spans;
    uint64_t split_maxima;
    uint64_t split_sums;
    uint64_t split_values;
    uint64_t query;     // MLA: rounded queries and, later, rounded latents
    uint64_t latent;    // MLA: queries in latent space, float32
    uint64_t weighted;  // MLA: weighted latents, float32
    uint64_t bytes_max; // for any launch with at most as many rows
};

// Shorter splits keep more sums than they spare; more than 32 do not shorten the longest way noticeably.
inline constexpr uint32_t split_tokens_min = 512;
inline constexpr uint32_t splits_max = 32;
// With as many blocks of whole rows the device is full: two on each of an H100's 132 SMs. A constant, and the result
// does not depend on it.
inline constexpr uint32_t attention_blocks_full = 264;
inline constexpr uint64_t split_bytes_max = 64ull << 20;

inline uint32_t attention_split_tokens(uint32_t context_max) {
    const auto even = uint32_t(round_up((uint64_t{context_max} + splits_max - 1) / splits_max, attention_tile));
    return std::max(even, split_tokens_min);
}

// The most rows whose splits are shared out: few, and whose sums have room.
inline uint32_t split_rows_limit(const attention_plan& plan, uint32_t heads, uint32_t value_width) {
    if (plan.splits <= 1)
        return 0;
    const uint64_t row_bytes = uint64_t{plan.splits} * heads * (value_width + 2) * sizeof(float);
    const uint64_t rows = std::min<uint64_t>(attention_blocks_full / plan.head_blocks, split_bytes_max / row_bytes);
    return uint32_t(std::max<uint64_t>(rows, 1));
}

// The part that GQA and MLA share. `begin`: where the workspace is free.
inline attention_plan plan_attention(uint32_t heads, uint32_t kv_heads, uint32_t value_width, uint32_t context_max,
                                     uint32_t rows) {
    attention_plan plan{};
    plan.split_tokens = attention_split_tokens(context_max);
    plan.splits = (context_max + plan.split_tokens - 1) / plan.split_tokens;
    plan.head_blocks = kv_heads * ((heads / kv_heads + attention_heads - 1) / attention_heads);
    const uint32_t split_rows = std::min(split_rows_limit(plan, heads, value_width), rows);
    plan.shared_out = split_rows > 0 && rows <= split_rows;
    const uint64_t split_heads = uint64_t{split_rows} * plan.splits * heads;
    plan.split_maxima = round_up(uint64_t{rows} * sizeof(attention_span), 64);
    plan.split_sums = plan.split_maxima + round_up(split_heads * sizeof(float), 64);
    plan.split_values = plan.split_sums + round_up(split_heads * sizeof(float), 64);
    plan.bytes_max = plan.split_values + round_up(split_heads * value_width * sizeof(float), 64);
    return plan;
}

inline attention_plan plan_attention_gqa(const moira_attention_gqa_desc& desc, uint32_t rows) {
    return plan_attention(desc.heads, desc.kv_heads, desc.head_dim, desc.context_max, rows);
}

// Padded to whole stages of the products.
inline uint32_t mla_rounded_width(uint32_t width) {
    return uint32_t(round_up(width, weight_tile_k(weight_format::bf16)));
}

inline attention_plan plan_attention_mla(const moira_attention_mla_desc& desc, uint32_t rows) {
    attention_plan plan = plan_attention(desc.heads, 1, desc.kv_rank, desc.context_max, rows);
    const uint64_t row_heads = uint64_t{rows} * desc.heads;
    plan.query = plan.bytes_max;
    plan.latent =
        plan.query + row_heads * std::max(mla_rounded_width(desc.key_dim), mla_rounded_width(desc.kv_rank)) * 2;
    plan.weighted = plan.latent + round_up(row_heads * desc.kv_rank * sizeof(float), 64);
    plan.bytes_max = plan.weighted + round_up(row_heads * desc.kv_rank * sizeof(float), 64);
    return plan;
}

template <class Desc>
attention_kernel_args attention_args_of(const Desc& desc, const moira_attention_args& args, const attention_plan& plan,
                                        const cuda_launch& launch) {
    auto* workspace = static_cast<unsigned char*>(args.workspace);
    attention_kernel_args made{};
    made.q_row = args.q_stride;
    made.q = made.q_tail = args.q;
    made.pool = static_cast<const uint16_t*>(args.kv.pool);
    made.slot_stride = args.kv.slot_stride;
    made.page_table = args.kv.page_table;
    made.row_table = args.row_table;
    made.spans = reinterpret_cast<attention_span*>(workspace + plan.spans);
    made.rows = args.rows;
    made.page_table_entries = args.page_table_entries;
    made.page_tokens = desc.page_tokens;
    made.pages = desc.pages;
    made.context_max = desc.context_max;
    made.heads = desc.heads;
    made.split_tokens = plan.split_tokens;
    made.scale = desc.scale;
    made.split_values = reinterpret_cast<float*>(workspace + plan.split_values);
    made.split_maxima = reinterpret_cast<float*>(workspace + plan.split_maxima);
    made.split_sums = reinterpret_cast<float*>(workspace + plan.split_sums);
    made.splits = plan.splits;
    made.error = launch.errors;
    return made;
}

// Launches through `launcher`, whose members know how: check(shape, args), rows<Shape, shared_out>(shape, args) and
// merge(shape, args); for MLA also those of run_gemm.
template <class Shape, class Launcher>
void run_attention_rows(const attention_kernel_args& args, const attention_plan& plan, Launcher& launcher) {
    launcher.check(launch_shape{(args.rows + attention_check_warps - 1) / attention_check_warps, 1, 1,
                                attention_check_warps * warp_lanes, 0},
                   args);
    launch_shape shape{1, plan.head_blocks, args.rows, attention_threads, Shape::shared_bytes};
    if (!plan.shared_out)
        return launcher.template rows<Shape, false>(shape, args);
    shape.grid_x = plan.splits;
    launcher.template rows<Shape, true>(shape, args);
    launcher.merge(launch_shape{args.heads, args.rows, 1, attention_threads, 0}, args);
}

template <class Launcher>
void run_attention_gqa(const moira_attention_gqa_desc& desc, const moira_attention_args& abi_args,
                       const attention_plan& plan, const cuda_launch& launch, Launcher& launcher) {
    if (abi_args.rows == 0)
        return;
    attention_kernel_args args = attention_args_of(desc, abi_args, plan, launch);
    args.q_head = desc.head_dim;
    args.split_at = args.key_width = args.value_width = desc.head_dim;
    args.value_offset = abi_args.kv.value_offset;
    args.kv_head_stride = desc.head_dim;
    args.window = desc.window;
    args.kv_group = desc.heads / desc.kv_heads;
    args.group_blocks = (args.kv_group + attention_heads - 1) / attention_heads;
    args.sinks = desc.sinks ? abi_args.sinks : nullptr;
    args.out = abi_args.out;
    args.out_row = abi_args.out_stride;
    args.out_head = desc.head_dim;
    if (desc.head_dim <= 64)
        return run_attention_rows<attention_shape<64, 64, false, 4>>(args, plan, launcher);
    if (desc.head_dim <= 128)
        return run_attention_rows<attention_shape<128, 128, false, 4>>(args, plan, launcher);
    run_attention_rows<attention_shape<256, 256, false, 3>>(args, plan, launcher);
}

// Every head's product with its own matrix of `n` x `k`: x [rows][x_row], head h at h * x_head, rounded at `rounded`.
template <class Launcher>
void run_head_products(const gemm_kernel_args& shape, uint32_t heads, uint16_t* rounded, Launcher& launcher) {
    gemm_kernel_args args = shape;
    args.x_rounded = rounded;
    args.x_width = mla_rounded_width(args.k);
    args.x_rounded_batch = uint64_t{args.rows} * args.x_width;
    launcher.round(launch_shape{args.rows, 1, heads, gemm_round_threads, 0}, args);
    run_gemm_tiles<weight_format::bf16>(args, gemm_tile_rows(args.rows), heads, launcher);
}

template <class Launcher>
void run_attention_mla(const moira_attention_mla_desc& desc, const moira_attention_args& abi_args,
                       const attention_plan& plan, const cuda_launch& launch, Launcher& launcher) {
    if (abi_args.rows == 0)
        return;
    auto* workspace = static_cast<unsigned char*>(abi_args.workspace);
    auto* rounded = reinterpret_cast<uint16_t*>(workspace + plan.query);
    const mla_layout layout =
        mla_layout_of(sm80_packing(), desc.quantization, desc.kv_rank, desc.key_dim, desc.value_dim);
    gemm_kernel_args project{};
    project.weight = static_cast<const unsigned char*>(abi_args.weight);
    project.weight_batch = layout.head_bytes;
    project.rows = abi_args.rows;
    project.n = desc.kv_rank;
    project.k = desc.key_dim;
    project.x = abi_args.q;
    project.x_stride = abi_args.q_stride;
    project.x_batch = desc.key_dim + desc.rope_dim;
    project.out = reinterpret_cast<float*>(workspace + plan.latent);
    project.out_batch = desc.kv_rank;
    project.out_stride = uint64_t{desc.heads} * desc.kv_rank;
    run_head_products(project, desc.heads, rounded, launcher);

    attention_kernel_args args = attention_args_of(desc, abi_args, plan, launch);
    args.q = project.out;
    args.q_row = project.out_stride;
    args.q_head = desc.kv_rank;
    args.q_tail = abi_args.q + desc.key_dim;
    args.q_tail_row = abi_args.q_stride;
    args.q_tail_head = project.x_batch;
    args.split_at = args.value_width = desc.kv_rank;
    args.key_width = desc.kv_rank + desc.rope_dim;
    args.kv_group = desc.heads;
    args.group_blocks = plan.head_blocks;
    args.out = reinterpret_cast<float*>(workspace + plan.weighted);
    args.out_row = project.out_stride;
    args.out_head = desc.kv_rank;
    if (args.key_width <= 96 && desc.kv_rank <= 64)
        run_attention_rows<attention_shape<96, 64, true, 3>>(args, plan, launcher);
    else
        run_attention_rows<attention_shape<576, 512, true, 2>>(args, plan, launcher);

    gemm_kernel_args value = project;
    value.weight = project.weight + layout.value;
    value.n = desc.value_dim;
    value.k = desc.kv_rank;
    value.x = args.out;
    value.x_stride = args.out_row;
    value.x_batch = desc.kv_rank;
    value.out = abi_args.out;
    value.out_stride = abi_args.out_stride;
    value.out_batch = desc.value_dim;
    run_head_products(value, desc.heads, rounded, launcher);
}

} // namespace moira
