#include "core/sample/counter_random.hpp"

#include "core/sample/sampler.hpp"

namespace moira {

namespace {

// Multipliers and Weyl increments of the paper (its table 2 and section 3.3): golden ratio and sqrt(3) - 1.
constexpr std::uint64_t multiplier_0 = 0xD2511F53u;
constexpr std::uint64_t multiplier_1 = 0xCD9E8D57u;
constexpr std::uint32_t key_step_0 = 0x9E3779B9u;
constexpr std::uint32_t key_step_1 = 0xBB67AE85u;
constexpr int rounds = 10;

constexpr std::uint32_t high(std::uint64_t product) noexcept {
    return static_cast<std::uint32_t>(product >> 32);
}

constexpr std::uint32_t low(std::uint64_t product) noexcept {
    return static_cast<std::uint32_t>(product);
}

} // namespace

std::array<std::uint32_t, 4> philox_4x32_10(std::array<std::uint32_t, 4> counter,
                                            std::array<std::uint32_t, 2> key) noexcept {
    for (int round = 0; round < rounds; ++round) {
        const std::uint64_t product_0 = multiplier_0 * counter[0];
        const std::uint64_t product_1 = multiplier_1 * counter[2];
        counter = {high(product_1) ^ counter[1] ^ key[0], low(product_1), high(product_0) ^ counter[3] ^ key[1],
                   low(product_0)};
        key[0] += key_step_0;
        key[1] += key_step_1;
    }
    return counter;
}

double uniform_at(std::uint64_t seed, std::uint64_t position) noexcept {
    const auto bits = philox_4x32_10({low(position), high(position), 0, 0}, {low(seed), high(seed)});
    const std::uint64_t word = (std::uint64_t{bits[0]} << 32) | bits[1];
    // 53 bits fill a double's significand exactly, so 1.0 cannot come out.
    return static_cast<double>(word >> 11) * 0x1.0p-53;
}

} // namespace moira
