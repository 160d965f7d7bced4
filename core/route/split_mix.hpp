#pragma once

#include <cstddef>
#include <cstdint>

namespace moira {

/// Random numbers that are the same on every machine: splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom
/// number generators", OOPSLA 2014), a counter through a mixing function.
class split_mix {
public:
    explicit split_mix(std::uint64_t seed) noexcept : state_(seed) {}

    std::uint64_t next() noexcept { return mix(state_ += 0x9e3779b97f4a7c15ULL); }

    /// 0 .. 1, 1 excluded.
    double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

    /// 0 .. count - 1; the bias of a modulus is below count / 2^64. Precondition: count > 0.
    std::size_t below(std::size_t count) noexcept { return static_cast<std::size_t>(next() % count); }

    /// A bijection that spreads every bit: for seeds made of several numbers.
    static constexpr std::uint64_t mix(std::uint64_t value) noexcept {
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
        value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
        return value ^ (value >> 31);
    }

private:
    std::uint64_t state_;
};

} // namespace moira
