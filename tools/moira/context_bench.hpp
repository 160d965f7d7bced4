#pragma once

#include "tools/moira/op_bench.hpp"

#include <nlohmann/json.hpp>

namespace moira {

/// Decoding steps of one row behind a context of some length.
struct context_row {
    std::int32_t context = 0;
    std::uint64_t cached_bytes = 0; ///< keys and values of the context, all layers
    step_timing step;
};

struct context_bench {
    std::vector<context_row> rows; ///< as asked for
    std::string kv_type;           ///< "f32" or "bf16"
    std::uint64_t kv_bytes = 0;    ///< of the whole cache
    std::vector<double> probe_gb_s;
    std::vector<flop_peaks> peaks;
};

/// Lengths as in "8192,131072": 1 to 2^24 each, at most 16 of them. Errors: invalid_argument.
result<std::vector<std::int32_t>> parse_contexts(const std::string& text);

/// Fills the cache with numbers of its own instead of computing prompts, then runs steps at every length in rounds, as
/// measure_ops does. Errors: prompt_too_long where the model's context does not hold a length; those of steps;
/// cancelled.
result<context_bench> measure_contexts(model_room& room, memory_probe& probe, const std::vector<std::int32_t>& contexts,
                                       std::int32_t repeat, const std::function<bool()>& interrupted,
                                       const bench_progress& progress);

/// The array that --json prints, and tables for people.
nlohmann::ordered_json context_bench_json(const std::string& model, std::uint32_t threads, const context_bench& found);
std::string context_bench_text(const context_bench& found, bool colour);

} // namespace moira
