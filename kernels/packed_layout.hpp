// Where things lie inside a packed block: the same for every CPU plugin, which differ only in how one matrix is stored.
#pragma once

#include "kernels/cpu_kernels.hpp"

namespace moira {

// Output columns per tile: four AVX-512 or eight AVX2 vectors of float32.
inline constexpr uint32_t tile_columns = 64;

// layout_id: base (how a matrix is stored), MOIRA_PACK_*, MOIRA_TYPE_*. A changed layout needs a new base.
inline constexpr uint32_t layout_base_row_major = 1;
inline constexpr uint32_t layout_base_tiles = 3; // 2: F8 was [k][64], not in pairs

constexpr uint32_t packed_layout_id(uint32_t base, uint32_t pack_kind, const moira_quantization& quantization) {
    return base << 16 | pack_kind << 8 | quantization.weight_type;
}

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// Offsets in bytes within one expert's slab.
struct expert_layout {
    uint64_t gate;
    uint64_t up;
    uint64_t down;
    uint64_t gate_bias; // [inner] f32, zeros when the source has none
    uint64_t up_bias;   // [inner]
    uint64_t down_bias; // [hidden]
    uint64_t bytes;
};

inline expert_layout expert_layout_of(const packing_kernels& packing, const moira_quantization& quantization,
                                      uint32_t hidden, uint32_t inner) {
    const uint64_t in_bytes = packing.matrix_bytes(quantization, inner, hidden);
    const uint64_t inner_bias_bytes = round_up(uint64_t{inner} * sizeof(float), 64);
    expert_layout layout{};
    layout.up = in_bytes;
    layout.down = layout.up + in_bytes;
    layout.gate_bias = layout.down + packing.matrix_bytes(quantization, hidden, inner);
    layout.up_bias = layout.gate_bias + inner_bias_bytes;
    layout.down_bias = layout.up_bias + inner_bias_bytes;
    layout.bytes = layout.down_bias + round_up(uint64_t{hidden} * sizeof(float), 64);
    return layout;
}

// Absorbed MLA: per head one matrix [kv_rank, key_dim] (query to latent: the transposed key rows of kv_b_proj), then
// one [value_dim, kv_rank] (latent to value: its value rows as they are).
struct mla_layout {
    uint64_t value;      // bytes from a head's key matrix to its value matrix
    uint64_t head_bytes; // bytes between heads
};

inline mla_layout mla_layout_of(const packing_kernels& packing, const moira_quantization& quantization,
                                uint32_t kv_rank, uint32_t key_dim, uint32_t value_dim) {
    mla_layout layout{};
    layout.value = packing.matrix_bytes(quantization, kv_rank, key_dim);
    layout.head_bytes = layout.value + packing.matrix_bytes(quantization, value_dim, kv_rank);
    return layout;
}

} // namespace moira
