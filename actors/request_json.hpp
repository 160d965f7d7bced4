#pragma once

#include "actors/runtime_statistics.hpp"
#include "core/base/error.hpp"
#include "core/batch/generation_input.hpp"
#include "core/batch/generation_request.hpp"

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// JSON of requests and replies, shared by every gateway and by the command line. Plain functions; any thread.

namespace moira {

/// Nesting of a request: a request needs 3 (object, messages, message); hostile text can nest as deep as it is long.
inline constexpr std::size_t request_depth_max = 32;

/// JSON values in one request besides the ids of a prompt: bounds the memory that a line of "[]," can take.
inline constexpr std::size_t request_values_max = 1'000'000;

/// Deadlines longer than a day are a unit mistake.
inline constexpr std::int64_t request_timeout_ms_max = 86'400'000;

/// Parses hostile text that must be one JSON object: bounded depth, no key twice in one object, UTF-8 throughout, all
/// numbers finite. `id`, when given, receives the outermost string member "id" if it was read, even when what follows
/// is wrong. Errors: invalid_json, invalid_utf8, invalid_argument (a number that overflows; names the field).
result<nlohmann::json> parse_request_json(std::string_view text, std::optional<std::string>* id = nullptr);

/// TCP refuses a field that nobody reads; HTTP lists it in `ignored`.
enum class unknown_field_policy { refuse, collect };

/// A request as it stood on the wire.
struct request_fields {
    generation_input input;
    std::optional<bool> stream;
    std::vector<std::string> ignored; ///< names of unknown fields (collect), sorted
};

/// Reads the fields of a generation request with their types and ranges. Members named in `others` belong to the caller
/// and are skipped. Errors name the field: invalid_argument, unknown_field, token_out_of_range.
result<request_fields> read_request(const nlohmann::json& object, unknown_field_policy policy,
                                    std::span<const std::string_view> others = {});

/// Share of what layers chose that the source of hints had among its first top-k. None: it predicted nothing.
std::optional<double> prediction_recall(const expert_store_statistics& experts);

/// Share of the predicted experts that were absent and then chosen.
std::optional<double> prediction_precision(const expert_store_statistics& experts);

/// `experts`: the counters of the expert store; recall and precision are null where nothing was predicted.
nlohmann::ordered_json experts_json(const expert_store_statistics& experts);

/// A row for each layer: what happened to its experts. Not part of replies.
nlohmann::ordered_json expert_layers_json(std::span<const layer_statistics> layers);

/// The same as experts_json with what a verdict needs, regret and layers.
nlohmann::ordered_json experts_report_json(const expert_store_statistics& experts);

/// `speculation`: what became of drafts; acceptance is null while nothing was drafted, `steps` verified a draft.
nlohmann::ordered_json speculation_json(const runtime_identity& identity, const speculation_counts& counts);

/// `usage`: tokens of prompt, completion and reused prefix.
nlohmann::ordered_json usage_json(const generation_result& outcome);

/// `moira`: what every final reply says about how it was computed.
nlohmann::ordered_json moira_json(const runtime_identity& identity, const expert_store_statistics& experts,
                                  const generation_result& outcome, std::span<const std::string> ignored = {});

/// `{"code":...,"message":...}`; the message ends with what to do.
nlohmann::ordered_json error_json(const error& why);

/// The object of `{"stats":...}`.
nlohmann::ordered_json statistics_json(const runtime_statistics& statistics);

/// One line of JSON without the line end. Bytes that are not UTF-8 become U+FFFD; never throws.
std::string json_text(const nlohmann::ordered_json& value);

} // namespace moira
