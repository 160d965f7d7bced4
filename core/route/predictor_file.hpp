#pragma once

#include "core/base/error.hpp"
#include "core/route/history_model.hpp"
#include "core/route/linear_heads.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace moira {

/// Which model a trained predictor is for. Empty or 0: not known, anything fits.
struct predictor_subject {
    std::string model;       ///< its name, for people
    std::string fingerprint; ///< of its routers' weights, see router_fingerprint
    std::int32_t layers = 0, experts = 0, top_k = 0;
    std::int32_t hidden = 0;
};

/// What a recording tells of its model.
predictor_subject subject_of(const route_trace& trace);

/// A trained predictor: heads, or a model of history. A safetensors file: heads as `AHEAD.LAYER.up`, `.down`, `.bias`
/// in F32, a history as `history.LAYER`; the rest is metadata.
struct trained_predictor {
    predictor_subject subject;
    std::uint64_t trained_tokens = 0;
    std::optional<linear_heads> heads;
    std::shared_ptr<history_model> history; ///< exactly one of both

    const char* kind() const noexcept { return heads ? "heads" : "history"; }
};

/// Bytes of a predictor's weights: heads of qwen3-30b-a3b at full rank take 110 MB.
inline constexpr std::uint64_t predictor_file_bytes_max = std::uint64_t{1} << 31;

/// Writes to a temporary name first. Errors: io_error.
result<void> write_predictor(const std::filesystem::path& path, const trained_predictor& trained);

/// Errors: not_found, io_error, corrupt_file (no predictor, sizes that contradict each other, values that are not
/// finite, more than predictor_file_bytes_max), unsupported (of a later version).
result<trained_predictor> read_predictor(const std::filesystem::path& path);

/// Whether a predictor trained on `subject` may speak for `model`. Errors: invalid_config, naming both.
result<void> check_subject(const std::filesystem::path& path, const predictor_subject& subject,
                           const predictor_subject& model);

} // namespace moira
