#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/execute/engine.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace moira {

/// What a forward pass over a whole text is asked to keep.
struct prompt_pass_options {
    bool hidden = false;
    bool routing = false;
    bool mtp = false;  ///< also run the multi-token-prediction layer; the engine must have it
    /// Logits of a 512-token text of the largest vocabularies are 300 MB; beyond this ask for less text.
    std::uint64_t kept_bytes_max = std::uint64_t{4} << 30;
};

/// Everything that a pass over T tokens kept.
struct prompt_pass {
    std::int32_t tokens = 0;
    std::vector<float> logits;                 ///< [T, vocabulary]
    std::vector<std::vector<float>> hidden;    ///< [layers + 1][T, hidden]; the last one is after the final norm
    std::map<std::int32_t, std::vector<std::int32_t>> routing;  ///< layer -> [T, top_k]
    std::vector<float> mtp_logits;             ///< [T - 1, vocabulary]; row i predicts token i + 2
};

/// Whether the engine can run `ids` as one text. Errors: invalid_argument (no tokens), token_out_of_range,
/// prompt_too_long.
result<void> check_prompt(const engine& model, std::span<const token_id> ids);

/// One step over the rows [first, first + count) of `ids`, whose earlier rows have run. The observer gets the logits of
/// the rows from `logits_first` on (an index into `ids`); nothing is kept. Preconditions: check_prompt, count <=
/// rows_max, no other text in between. Errors: those of the step.
result<void> run_prompt_rows(engine& model, std::span<const token_id> ids, std::int32_t first, std::int32_t count,
                             std::int32_t logits_first, forward_observer& observer);

/// Runs `ids` through the engine in steps of at most its rows_max, from an empty context. Errors: token_out_of_range,
/// prompt_too_long, invalid_argument (kept_bytes_max), and those of the step.
result<prompt_pass> run_prompt(engine& model, std::span<const token_id> ids, const prompt_pass_options& options);

}  // namespace moira
