// Random weight matrices as a checkpoint stores them, and the numbers that they stand for.
#pragma once

#include "kernels/cpu_kernels.hpp"
#include "kernels/float_formats.hpp"
#include "kernels/reference/reference_kernels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace moira {

inline constexpr moira_quantization plain_f32{MOIRA_TYPE_F32, MOIRA_SCALE_NONE, 0, 0, 0, MOIRA_ACTIVATION_KEEP};

// A fixed sequence for each seed, evenly spread over [-limit, limit).
inline std::vector<float> random_values(uint64_t count, uint64_t seed, float limit) {
    std::vector<float> values(count);
    uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
    for (float& value : values) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        value = (float(state >> 40) / float(1u << 23) - 1.0f) * limit;
    }
    return values;
}

struct stored_matrix {
    uint32_t n;
    uint32_t k;
    moira_quantization quantization;
    std::vector<unsigned char> bytes;  // row-major, tight
    std::vector<unsigned char> scales; // as the checkpoint has them
    std::vector<float> values;         // what they stand for

    stored_matrix(uint32_t weight_type, uint32_t rows, uint32_t columns, uint64_t seed)
        : n(rows), k(columns), quantization(quantization_of(weight_type)) {
        const std::vector<float> drawn = random_values(uint64_t{n} * k, seed, 1.0f);
        values = drawn;
        bytes.resize((uint64_t{n} * k * element_bits(weight_type) + 7) / 8);
        make_scales();
        for (uint64_t i = 0; i < drawn.size(); ++i)
            store(i, drawn[i]);
    }

private:
    static uint32_t element_bits(uint32_t type) {
        return type == MOIRA_TYPE_F32 ? 32 : type == MOIRA_TYPE_F8_E4M3 ? 8 : type == MOIRA_TYPE_F4_E2M1 ? 4 : 16;
    }
    static moira_quantization quantization_of(uint32_t type) {
        if (type == MOIRA_TYPE_F8_E4M3)
            return {type, MOIRA_SCALE_BLOCK, MOIRA_TYPE_F32, 32, 128, MOIRA_ACTIVATION_KEEP};
        if (type == MOIRA_TYPE_F4_E2M1)
            return {type, MOIRA_SCALE_BLOCK, MOIRA_TYPE_F8_E8M0, 1, 32, MOIRA_ACTIVATION_KEEP};
        return {type, MOIRA_SCALE_NONE, 0, 0, 0, MOIRA_ACTIVATION_KEEP};
    }
    uint64_t scale_index(uint64_t index) const {
        const uint64_t blocks = (uint64_t{k} + quantization.block_k - 1) / quantization.block_k;
        return index / k / quantization.block_n * blocks + index % k / quantization.block_k;
    }
    void make_scales() {
        if (quantization.scale_mode == MOIRA_SCALE_NONE)
            return;
        const uint64_t count = scale_index(uint64_t{n} * k - 1) + 1;
        if (quantization.scale_type == MOIRA_TYPE_F8_E8M0) {
            for (uint64_t i = 0; i < count; ++i)
                scales.push_back(static_cast<unsigned char>(122 + i * 7 % 4));
            return;
        }
        const std::vector<float> drawn = random_values(count, n + k, 1.0f / 256.0f);
        scales.resize(count * sizeof(float));
        std::memcpy(scales.data(), drawn.data(), scales.size());
    }
    float scale(uint64_t index) const {
        if (quantization.scale_type == MOIRA_TYPE_F8_E8M0)
            return std::ldexp(1.0f, int(scales[scale_index(index)]) - 127);
        float value;
        std::memcpy(&value, scales.data() + scale_index(index) * sizeof value, sizeof value);
        return value;
    }
    void store(uint64_t index, float value) {
        constexpr float e2m1[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
        switch (quantization.weight_type) {
        case MOIRA_TYPE_F32:
            std::memcpy(bytes.data() + index * 4, &value, 4);
            return;
        case MOIRA_TYPE_BF16:
        case MOIRA_TYPE_F16: {
            const bool is_f16 = quantization.weight_type == MOIRA_TYPE_F16;
            uint16_t bits = float_to_bf16(value);
            if (is_f16) // any code that is a number below 2
                bits = uint16_t((bits & 0x8000u) | bits * 13u % 0x4000u);
            std::memcpy(bytes.data() + index * 2, &bits, 2);
            values[index] = is_f16 ? f16_to_float(bits) : bf16_to_float(bits);
            return;
        }
        case MOIRA_TYPE_F8_E4M3: { // every code but NaN
            const auto code = static_cast<unsigned char>(int(value * 126.99f) + (value < 0.0f ? 256 : 0));
            const unsigned char number = (code & 0x7F) == 0x7F ? 0x7E : code;
            bytes[index] = number;
            values[index] = f8_e4m3_to_float(number) * scale(index);
            return;
        }
        default: {
            const auto code = uint32_t(std::min(15, int((value + 1.0f) * 8.0f)));
            bytes[index / 2] = static_cast<unsigned char>(bytes[index / 2] | code << index % 2 * 4);
            values[index] = (code & 8u ? -1.0f : 1.0f) * e2m1[code & 7u] * scale(index);
        }
        }
    }
};

// The largest error of any element, relative to the root mean square of its row of `width`.
inline double worst_relative_error(const std::vector<float>& got, const std::vector<float>& expected, uint32_t width) {
    double worst = 0.0;
    for (uint64_t row = 0; row < expected.size(); row += width) {
        double squares = 0.0;
        for (uint64_t i = row; i < row + width; ++i)
            squares += double(expected[i]) * expected[i];
        for (uint64_t i = row; i < row + width; ++i) {
            const double error = std::fabs(double(got[i]) - expected[i]) / std::sqrt(squares / width);
            worst = error <= worst ? worst : error; // NaN is the worst
        }
    }
    return worst;
}

} // namespace moira
