#pragma once

#include "plugins/moira_plugin.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace moira {

/// Numbers that are the same in every run and on every machine (SplitMix64, Steele et al. 2014).
class number_source {
public:
    explicit number_source(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() noexcept;
    /// Uniform in [0, limit), limit > 0.
    std::uint32_t below(std::uint32_t limit) noexcept;
    /// Uniform in [-1, 1).
    float signed_unit() noexcept;

private:
    std::uint64_t state_;
};

std::vector<float> random_floats(std::uint64_t seed, std::size_t count, float scale = 1.0f);

/// The stored form of a weight matrix [n, k], as a checkpoint would hold it.
struct stored_weight {
    std::vector<std::byte> bytes;
    std::vector<float> scales; ///< empty without scales
};

/// Random values near 1 / sqrt(k), so that a product with a unit row has unit size.
stored_weight random_weight(std::uint64_t seed, const moira_quantization& quantization, std::uint32_t n,
                            std::uint32_t k);

std::uint32_t element_bytes(std::uint32_t type);

/// "bf16", "f8_e4m3", ...
std::string type_name(std::uint32_t type);

moira_quantization plain(std::uint32_t type);

/// DeepSeek-V3's: E4M3 with one f32 scale per 128 x 128 block.
moira_quantization block_f8();

/// Elements [begin, begin + count) * width of a row-major array.
template <class T>
std::vector<T> rows_of(const std::vector<T>& all, std::size_t width, std::uint32_t begin, std::uint32_t count) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin * width);
    return {first, first + static_cast<std::ptrdiff_t>(count * width)};
}

} // namespace moira
