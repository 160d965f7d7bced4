#pragma once

#include "core/execute/op_provider.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace moira {

struct op_speed_options {
    std::uint32_t hidden = 2048; ///< those of qwen3-30b-a3b
    std::uint32_t inner = 768;
    std::uint32_t experts = 128; ///< in memory: 1.2 GB in BF16, far more than 4 times the L2 of any GPU
    std::uint32_t top_k = 8;
    std::uint32_t gemm_n = 4096; ///< the query projection
    std::uint32_t gemm_weights = 32;
    std::vector<std::uint32_t> batches = {1, 4, 16, 2048};
    double seconds = 0.2; ///< of each measurement, at least
};

/// One op, or copies to the device, at one size.
struct op_speed_row {
    std::string op;   ///< "expert_ffn", "gemm", "gemm_library" (where the plugin offers it), "copy"
    std::string type; ///< of its weights
    std::uint32_t batch = 0;
    double us = 0;    ///< per launch, of many queued one behind the other
    double bytes = 0; ///< of weights that a launch must read, or that are copied
    double flops = 0;
};

/// Times ops with weights that rotate, so that no launch finds its own in a cache: grouped expert FFN with every
/// token's experts drawn at random, gemm, and copies of experts from page-locked memory. Errors: device_error with the
/// plugin's words; out_of_memory.
result<std::vector<op_speed_row>> measure_op_speeds(const op_provider& provider, const op_speed_options& options);

} // namespace moira
