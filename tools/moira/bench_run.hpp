#pragma once

#include "actors/local_runtime.hpp"
#include "core/base/error.hpp"
#include "tools/moira/bench_numbers.hpp"
#include "tools/moira/memory_probe.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace moira {

/// One line of the result.
struct bench_row_options {
    std::int32_t batch = 1, prompt_tokens = 0, gen_tokens = 0, repeat = 1;
};

/// What the weights of the model are, for the bytes that a step must read.
struct bench_model {
    weight_bytes weights;
    std::int32_t experts = 0, top_k = 0, moe_layers = 0;
};

/// Measurements of one batch size.
struct bench_row {
    bench_row_options options;
    std::vector<double> prefill_tok_s, decode_tok_s; ///< one per repeat
    std::vector<double> probe_gb_s;                  ///< before the first repeat and after each
    std::string probe_kernel;                        ///< of the best probe
    std::vector<double> itl_ms;                      ///< between tokens of a sequence, all repeats together
    std::uint64_t steps = 0;                         ///< of all repeats
    double rows_per_step = 0;                        ///< while decoding was measured
    bool whole_batch = true;                         ///< see batch_speed
    double experts_per_step = 0;                     ///< distinct ones, over all layers
    bool experts_measured = false;                   ///< else estimated from an even use of experts
    double bytes_per_token = 0;
    std::vector<std::string> sequence_hashes;                   ///< of the first repeat
    bool hashes_equal = true;                                   ///< in every repeat
    std::uint64_t hits = 0, demand_loads = 0, demand_bytes = 0; ///< of all repeats
    runtime_statistics after;                                   ///< at the end
};

/// What to show while it runs: "batch 4, repeat 2 of 3".
using bench_progress = std::function<void(const std::string&)>;

/// One run that is not counted (it warms caches up and counts experts), then `repeat` measured ones with a pass of the
/// probe before and after each. Errors: those of requests; cancelled when `interrupted` says so.
result<bench_row> measure_row(local_runtime& runtime, memory_probe& probe, const bench_model& model,
                              const bench_row_options& options, const std::function<bool()>& interrupted,
                              const bench_progress& progress);

} // namespace moira
