#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstdint>
#include <span>
#include <string>

namespace moira {

/// How a token is chosen from logits. Defaults are greedy and change nothing.
struct sampling_parameters {
    double temperature = 0.0;         ///< 0: greedy
    std::int32_t top_k = 0;           ///< 0: all
    double top_p = 1.0;               ///< nucleus (Holtzman et al. 2020)
    double min_p = 0.0;               ///< keep tokens of at least min_p times the best probability
    double repetition_penalty = 1.0;  ///< Keskar et al. 2019; over prompt and generated tokens
    std::uint64_t seed = 0;
};

/// Ranges that the sampler can serve, NaN and infinities refused. Errors: invalid_argument naming the field.
result<void> check_sampling(const sampling_parameters& parameters);

/// Chooses the token for absolute `position` (number of tokens before it). A pure function of its arguments: the random
/// number comes from a counter-based generator keyed by seed and position (Philox 4x32-10, Salmon et al. 2011), so a
/// preempted, restarted or speculated sequence samples the same token. Equal logits: the lower id. NaN logits lose
/// against every number. `history`: the tokens that the repetition penalty counts; ignored when the penalty is 1.
token_id sample_token(std::span<const float> logits, const sampling_parameters& parameters, std::int64_t position,
                      std::span<const token_id> history);

/// A uniform number in [0, 1) for (seed, position).
double uniform_at(std::uint64_t seed, std::uint64_t position) noexcept;

/// 64-bit xxHash over raw float32 logits rows in order of emission. A value: copying it copies the state, so a
/// step can return the updated hash without owning the request.
class logits_hash {
public:
    logits_hash() noexcept;
    void add(std::span<const float> logits) noexcept;
    std::uint64_t value() const noexcept;
    std::string hex() const;  ///< 16 digits

private:
    static constexpr std::size_t state_bytes = 96;  ///< at least sizeof(XXH64_state_t), checked in sampler.cpp
    alignas(8) unsigned char state_[state_bytes];
};

}  // namespace moira
