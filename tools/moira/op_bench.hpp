#pragma once

#include "actors/runtime_parts.hpp"
#include "tools/moira/bench_run.hpp"
#include "tools/moira/flop_probe.hpp"
#include "tools/moira/memory_probe.hpp"
#include "tools/moira/op_cost.hpp"

#include <map>
#include <string>
#include <vector>

namespace moira {

/// One op of a model, over all its calls in a step.
struct op_timing {
    std::string op, detail, plugin;
    double calls_per_step = 0;
    double us_per_step = 0;             ///< median over the watched steps
    double bytes_per_step = 0;          ///< see op_cost
    double gb_s = 0;                    ///< median of the steps' rates
    double bandwidth_share = 0;         ///< of the probe beside it: median over rounds
    double gflop_s = 0, flop_share = 0; ///< of the peak of its arithmetic
    bool matrix_product = false;
};

/// Steps of one size.
struct step_timing {
    std::int32_t rows = 0;
    bool prefill = false;
    double step_us = 0; ///< median of steps that were not watched
    double ops_us = 0;  ///< of the watched ones: inside ops
    double ops_per_step = 0;
    double experts_per_step = 0; ///< distinct ones, over all layers
    double weight_bytes = 0;     ///< that a step must read: dense once, each expert of the union once, keys and values
    double gb_s = 0, bandwidth_share = 0;
    double gflop = 0, gflop_s = 0, flop_share = 0; ///< of a step, and against the peak of the dense products
    std::vector<op_timing> ops;                    ///< longest first
};

/// How fast experts are packed for the kernels.
struct packing_speed {
    double gb_s_one_thread = 0; ///< of the checkpoint's bytes
    std::uint64_t expert_bytes = 0;
};

struct op_bench {
    std::vector<step_timing> steps;
    packing_speed packing;
    std::vector<double> probe_gb_s;
    std::vector<flop_peaks> peaks;
};

struct op_bench_options {
    std::vector<std::int32_t> decode_rows; ///< one row of as many sequences
    std::int32_t prefill_rows = 512;       ///< cut to what a step and the context hold
    std::int32_t context = 128;            ///< tokens before the rows of decoding
    std::int32_t repeat = 3;               ///< rounds, each between two passes of the probe
};

/// Runs steps of a loaded model with its own weights, in rounds: the probes, then steps of every size, half of them
/// watched op by op. Each step has other tokens, so that it needs other experts. Errors: those of steps; cancelled.
result<op_bench> measure_ops(model_room& room, memory_probe& probe, const op_bench_options& options,
                             const std::function<bool()>& interrupted, const bench_progress& progress);

} // namespace moira
