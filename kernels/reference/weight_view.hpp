// A row-major weight matrix as the reference kernels read it.
#pragma once

#include "kernels/cpu_kernels.hpp"
#include "kernels/float_formats.hpp"
#include "kernels/packed_layout.hpp"

namespace moira {

// Bytes of one stored element; 0 for types that the CPU plugins do not read.
constexpr uint32_t weight_element_bytes(uint32_t weight_type) {
    switch (weight_type) {
    case MOIRA_TYPE_F32:
        return 4;
    case MOIRA_TYPE_BF16:
    case MOIRA_TYPE_F16:
        return 2;
    case MOIRA_TYPE_F8_E4M3:
        return 1;
    default:
        return 0;
    }
}

struct load_f32 {
    using element = float;
    static float load(const void* data, uint64_t index) { return static_cast<const float*>(data)[index]; }
};
struct load_bf16 {
    using element = uint16_t;
    static float load(const void* data, uint64_t index) {
        return bf16_to_float(static_cast<const uint16_t*>(data)[index]);
    }
};
struct load_f16 {
    using element = uint16_t;
    static float load(const void* data, uint64_t index) {
        return f16_to_float(static_cast<const uint16_t*>(data)[index]);
    }
};
struct load_f8_e4m3 {
    using element = uint8_t;
    static float load(const void* data, uint64_t index) {
        return f8_e4m3_to_float(static_cast<const uint8_t*>(data)[index]);
    }
};

// Calls function(loader) with the loader of the type.
template <class Function>
auto with_loader(uint32_t weight_type, const Function& function) {
    switch (weight_type) {
    case MOIRA_TYPE_BF16:
        return function(load_bf16{});
    case MOIRA_TYPE_F16:
        return function(load_f16{});
    case MOIRA_TYPE_F8_E4M3:
        return function(load_f8_e4m3{});
    default:
        return function(load_f32{});
    }
}

struct weight_view {
    const void* data;
    const float* scales; // [ceil(n / block_n), ceil(k / block_k)], or nullptr
    uint32_t type;
    uint32_t k;
    uint32_t block_n;
    uint32_t block_k;
};

inline uint64_t row_major_weight_bytes(const moira_quantization& quantization, uint32_t n, uint32_t k) {
    return round_up(uint64_t{n} * k * weight_element_bytes(quantization.weight_type), 64);
}

inline weight_view view_of(const moira_quantization& quantization, uint32_t n, uint32_t k, const void* packed) {
    weight_view view{packed, nullptr, quantization.weight_type, k, quantization.block_n, quantization.block_k};
    if (quantization.scale_mode == MOIRA_SCALE_BLOCK)
        view.scales = reinterpret_cast<const float*>(static_cast<const char*>(packed) +
                                                     row_major_weight_bytes(quantization, n, k));
    return view;
}

// sum over k of weight[row][k] * x[k], in K order; with scales, one partial sum per block of K.
float weight_dot(const weight_view& weight, uint64_t row, const float* x);

// gate and up through the activation (MOIRA_FFN_*).
float gated_activation(const moira_expert_ffn_desc& desc, float gate, float up);

} // namespace moira
