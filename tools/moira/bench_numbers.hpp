#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

// The arithmetic of `moira bench`: no clocks, no threads, no output.

/// More sequences than any setting allows would be refused later with fewer words.
inline constexpr std::int32_t bench_batch_max = 1'024;
inline constexpr std::size_t bench_rows_max = 64;

/// "1,4,16" to numbers, in the order given. Errors: invalid_argument (what is no number of 1 to bench_batch_max, too
/// many).
result<std::vector<std::int32_t>> parse_batches(std::string_view text);

/// Of repeated measurements. All zero without any.
struct spread {
    double min = 0, median = 0, max = 0;
};
spread spread_of(std::vector<double> values);

/// The value at `share` of the sorted values (0.5: the upper median); 0 without any.
double value_at_share(std::vector<double> values, double share);

using bench_clock = std::chrono::steady_clock;

/// When each token of one sequence arrived.
using token_arrivals = std::vector<bench_clock::time_point>;

/// Speeds of one run of a batch whose sequences were submitted together at `start`.
struct batch_speed {
    double prefill_s = 0;                              ///< to the last sequence's first token
    double decode_s = 0;                               ///< of the window in which decoding was measured
    std::uint64_t decode_tokens = 0, decode_steps = 0; ///< within that window
    bool whole_batch = false;                          ///< every sequence was decoding in the whole window
};

/// Decoding is measured from the last first token, when all prompts are done, to the first end of a sequence: there
/// each step has one row of every sequence. Where no step lies between (few tokens, long prompts), to the last end.
/// Precondition: every sequence has at least one token.
batch_speed speed_of(bench_clock::time_point start, std::span<const token_arrivals> sequences);

/// Experts acquired per step, from looks at a running batch: number of the newest planned step -> the fewest experts
/// that a look during this step saw, which is nearest to its beginning. The median of the slopes between looks half the
/// run apart, so that a look in mid-step does not count. 0 for less than two steps.
double experts_per_step(const std::map<std::uint64_t, std::uint64_t>& looks);

/// Distinct experts that `rows` rows are expected to choose in one layer when every expert is equally likely.
double distinct_experts_expected(std::int32_t experts, std::int32_t top_k, double rows);

/// What a step must read of the weights.
struct weight_bytes {
    std::uint64_t dense = 0;     ///< everything that is always read, the embedding table included
    std::uint64_t embedding = 0; ///< of the table, of which a token reads one row
    std::int32_t vocabulary = 1;
    std::uint64_t expert = 0; ///< one expert as kernels read it
};

/// Bytes per generated token in steps of `rows` rows that together choose `experts` experts over all layers.
double bytes_per_token(const weight_bytes& weights, double rows, double experts);

/// Of one sequence: its own hash. Of several: 64-bit xxHash (seed 0) over their hex digits in order of submission.
std::string combined_hash(std::span<const std::string> hashes);

/// The prompt of sequence `index`: ids that depend on index and position only, uniform over the vocabulary.
std::vector<token_id> bench_prompt(std::uint64_t index, std::int32_t tokens, std::int32_t vocabulary);

} // namespace moira
