#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/evaluate/prompt_pass.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// What another implementation computed for a checkpoint: DIR/golden.safetensors. Absent tensors stay empty.
struct golden_record {
    std::vector<token_id> input_ids;
    std::int32_t vocabulary = 0, hidden_width = 0, top_k = 0;
    std::vector<float> logits;                  ///< [T, vocabulary]
    std::map<std::int32_t, std::vector<float>> hidden;  ///< N -> [T, hidden]
    std::map<std::int32_t, std::vector<std::int32_t>> routing;  ///< layer -> [T, top_k], compared as sets
    std::vector<token_id> greedy_ids;
    std::vector<float> greedy_logits;           ///< [steps, vocabulary]
    std::vector<float> mtp_logits;              ///< [T - 1, vocabulary]; only of models with such a layer
    std::vector<std::string> absent;            ///< names of tensors that a full record has
};

/// Errors: not_found, corrupt_file, unsupported (dtype of a known tensor).
result<golden_record> read_golden(const std::filesystem::path& folder);

/// How far a result may be from the record.
struct golden_limits {
    /// float32 on the same weights agrees to about 1e-4 for logits with a standard deviation of about 1.
    double max_abs_error = 1e-3;
    /// With bfloat16 products an expert at a near tie may change, after which a row has nothing to do with the record:
    /// such rows are counted, the others bounded.
    std::int32_t rows_rerouted_max = 0;
    std::optional<double> median_row_error_max;
    /// Greedy tokens are compared where the record's two best logits differ by more than this.
    double greedy_margin_min = 0.01;
};

/// Limits for bfloat16 arithmetic from what the reference implementation itself gets in bfloat16: bf16.json in or
/// beside `folder` (median at most that, rerouted rows at most that + 2, same-route rows at most 1.5 x). None without it.
result<std::optional<golden_limits>> read_bf16_limits(const std::filesystem::path& folder);

struct golden_report {
    double max_abs_error = 0;         ///< over all rows of logits
    double median_row_error = 0;      ///< of the rows' largest errors
    double max_error_same_route = 0;  ///< over rows whose experts all agree
    double hidden_max_error = 0;
    std::int32_t rows = 0, rows_rerouted = 0;
    std::int32_t greedy_match = 0, greedy_skipped = 0, greedy_steps = 0;
    std::optional<double> mtp_max_error, mtp_median_row_error;  ///< of mtp_logits; none: not compared
    std::vector<std::string> absent;
    std::vector<std::string> violations;  ///< which limits did not hold; empty: passed
    bool passed() const noexcept { return violations.empty(); }
};

/// Runs the record's prompt and its greedy continuation (each step sees the record's own tokens, so that one different
/// choice does not hide the next ones) and compares whatever is there; the prediction layer when the engine has it. Errors: those of run_prompt; corrupt_file when
/// the record does not belong to the model.
result<golden_report> compare_with_golden(engine& model, const golden_record& record, const golden_limits& limits);

}  // namespace moira
