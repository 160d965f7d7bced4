#include "core/synthesize/weight_values.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace moira {

namespace {

constexpr std::size_t quantile_bits = 12;
constexpr std::uint64_t quantile_mask = (1u << quantile_bits) - 1;

/// SplitMix64 (Steele, Lea, Flood 2014) as a function of its counter: two multiplications for four values.
std::uint64_t random_word(std::uint64_t key, std::uint64_t index) noexcept {
    std::uint64_t word = key + index * 0x9E3779B97F4A7C15u;
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
    return word ^ (word >> 31);
}

/// FNV-1a over the name, then mixed with the seed.
std::uint64_t key_of(std::string_view name, std::uint64_t seed) noexcept {
    std::uint64_t hash = 0xCBF29CE484222325u;
    for (const char letter : name)
        hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001B3u;
    return random_word(hash, seed + 1);
}

std::size_t quantile_of(std::uint64_t word, std::uint64_t lane) noexcept {
    return (word >> (16 * lane)) & quantile_mask;
}

/// The normal distribution's value at each quantile's middle, by Newton's method.
std::array<double, quantile_mask + 1> make_normal_values() {
    std::array<double, quantile_mask + 1> values{};
    const std::size_t half = values.size() / 2;
    for (std::size_t i = 0; i < half; ++i) {
        const double share = (static_cast<double>(i) + 0.5) / static_cast<double>(values.size());
        double value = 0;
        for (int step = 0; step < 60; ++step) {
            const double below = 0.5 * std::erfc(-value / std::sqrt(2.0));
            const double density = std::exp(-0.5 * value * value) / std::sqrt(2.0 * 3.14159265358979323846);
            const double change = (share - below) / density;
            value += std::clamp(change, -0.5, 0.5);
            if (std::abs(change) < 1e-12)
                break;
        }
        values[i] = value;
        values[values.size() - 1 - i] = -value;
    }
    return values;
}

const std::array<double, quantile_mask + 1>& normal_values() {
    static const auto values = make_normal_values();
    return values;
}

/// The largest of them, about 3.67: nothing lies further out.
double normal_value_max() {
    return normal_values().back();
}

std::uint16_t bf16_bits(double value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
    return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

constexpr double f8_value_max = 448.0;

/// What an E4M3 code of the positive half stands for; codes 0 to 126.
double f8_value(int code) noexcept {
    const int exponent = code >> 3, fraction = code & 7;
    return exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
}

/// To the nearest, ties to the even code.
std::uint8_t f8_bits(double value) noexcept {
    const double size = std::min(std::abs(value), f8_value_max);
    int code = 0;
    while (code < 126 && (f8_value(code + 1) - size < size - f8_value(code) ||
                          (f8_value(code + 1) - size == size - f8_value(code) && code % 2 == 1)))
        ++code;
    return static_cast<std::uint8_t>(code | (value < 0 ? 0x80 : 0));
}

/// Blocks differ in their scale, so that a kernel that takes a neighbour's shows: the block's largest value becomes
/// 448 / level.
constexpr std::array<double, 4> scale_levels{1.0, 1.125, 1.25, 1.375};

using f8_codes = std::array<std::array<std::uint8_t, quantile_mask + 1>, scale_levels.size()>;

f8_codes make_f8_codes() {
    f8_codes codes{};
    for (std::size_t level = 0; level < codes.size(); ++level)
        for (std::size_t i = 0; i < codes[level].size(); ++i)
            codes[level][i] = f8_bits(normal_values()[i] / normal_value_max() * f8_value_max / scale_levels[level]);
    return codes;
}

const f8_codes& f8_code_table() {
    static const auto codes = make_f8_codes();
    return codes;
}

/// Which level a block has. Its own stream: the key is turned.
std::size_t scale_level(std::uint64_t key, std::uint64_t block) noexcept {
    return random_word(~key, block) % scale_levels.size();
}

constexpr std::string_view scale_suffix = "_scale_inv";

/// Where an element of [..., rows, columns] lies, and how its blocks are numbered.
struct block_walk {
    std::uint64_t rows, columns, block_rows, block_columns;

    explicit block_walk(const std::vector<std::int64_t>& shape)
        : rows(static_cast<std::uint64_t>(shape[shape.size() - 2])), columns(static_cast<std::uint64_t>(shape.back())),
          block_rows((rows + scale_block - 1) / scale_block), block_columns((columns + scale_block - 1) / scale_block) {
    }

    std::uint64_t block_of(std::uint64_t row_of_all, std::uint64_t column) const {
        const auto matrix = row_of_all / rows, row = row_of_all % rows;
        return (matrix * block_rows + row / scale_block) * block_columns + column / scale_block;
    }
};

} // namespace

weight_values::weight_values(const synthetic_tensor& tensor, std::uint64_t seed) : tensor_(tensor) {
    std::string_view name = tensor.name;
    if (tensor.scales)
        name.remove_suffix(scale_suffix.size());
    key_ = key_of(name, seed);
    if (tensor.type != tensor_type::bf16)
        return;
    for (std::size_t i = 0; i < quantiles; ++i)
        bf16_[i] = bf16_bits(tensor.mean + tensor.deviation * normal_values()[i]);
}

void weight_values::fill(std::uint64_t first, std::span<std::byte> into) const {
    if (tensor_.scales)
        fill_scales(first, into);
    else if (tensor_.type == tensor_type::f8_e4m3)
        fill_f8(first, into);
    else
        fill_bf16(first, into);
}

void weight_values::fill_bf16(std::uint64_t first, std::span<std::byte> into) const {
    const std::uint64_t count = into.size() / sizeof(std::uint16_t);
    std::uint64_t word_index = first / elements_per_word, done = 0;
    auto* bytes = into.data();
    for (; done + elements_per_word <= count; done += elements_per_word, ++word_index) {
        const auto word = random_word(key_, word_index);
        const std::uint64_t four =
            std::uint64_t{bf16_[quantile_of(word, 0)]} | std::uint64_t{bf16_[quantile_of(word, 1)]} << 16 |
            std::uint64_t{bf16_[quantile_of(word, 2)]} << 32 | std::uint64_t{bf16_[quantile_of(word, 3)]} << 48;
        std::memcpy(bytes + done * sizeof(std::uint16_t), &four, sizeof four);
    }
    for (const auto word = random_word(key_, word_index); done < count; ++done)
        std::memcpy(bytes + done * sizeof(std::uint16_t), &bf16_[quantile_of(word, done % elements_per_word)],
                    sizeof(std::uint16_t));
}

void weight_values::fill_f8(std::uint64_t first, std::span<std::byte> into) const {
    const block_walk walk(tensor_.shape);
    auto* codes = reinterpret_cast<std::uint8_t*>(into.data());
    std::uint64_t at = first;
    const std::uint64_t end = first + into.size();
    while (at < end) {
        const auto row = at / walk.columns, column = at % walk.columns;
        // To the end of the block's part of this row.
        const auto run_end = std::min(
            {end, at - column + std::min(walk.columns, (column / scale_block + 1) * std::uint64_t{scale_block})});
        const auto& table = f8_code_table()[scale_level(key_, walk.block_of(row, column))];
        while (at < run_end) {
            const auto word = random_word(key_, at / elements_per_word);
            if (at % elements_per_word == 0 && at + elements_per_word <= run_end) {
                const std::uint32_t four =
                    std::uint32_t{table[quantile_of(word, 0)]} | std::uint32_t{table[quantile_of(word, 1)]} << 8 |
                    std::uint32_t{table[quantile_of(word, 2)]} << 16 | std::uint32_t{table[quantile_of(word, 3)]} << 24;
                std::memcpy(codes, &four, sizeof four);
                codes += elements_per_word;
                at += elements_per_word;
            } else {
                *codes++ = table[quantile_of(word, at % elements_per_word)];
                ++at;
            }
        }
    }
}

void weight_values::fill_scales(std::uint64_t first, std::span<std::byte> into) const {
    const double unit = tensor_.deviation * normal_value_max() / f8_value_max;
    for (std::size_t i = 0; i < into.size() / sizeof(float); ++i) {
        const auto scale = static_cast<float>(unit * scale_levels[scale_level(key_, first + i)]);
        std::memcpy(into.data() + i * sizeof(float), &scale, sizeof scale);
    }
}

} // namespace moira
