#pragma once

#include "core/execute/device.hpp"

#include <cstdint>
#include <string>

namespace moira {

// The arithmetic of `moira bench --ops`: what one launch of an op must read and compute.

/// Attention's share of a step, which its arguments hold on the device only.
struct attended_context {
    std::uint64_t row_positions = 0; ///< over all rows, the positions that each sees
    std::uint64_t kv_positions = 0;  ///< over all sequences, the longest of its rows: what must be read
};

struct op_cost {
    /// Weights of matrix products and cached keys and values: each once. Of ops without either: what they read and
    /// write.
    std::uint64_t bytes = 0;
    std::uint64_t flop = 0;      ///< a multiplication and an addition are two
    bool matrix_product = false; ///< bounded by weights or multipliers, and not by the cost of a launch
    bool bf16_product = false;   ///< may multiply in BF16 where the plugin does
};

op_cost cost_of(const bound_launch& launch, const attended_context& context);

/// Bytes of a matrix [n, k] with its scales.
std::uint64_t weight_bytes_of(std::uint64_t n, std::uint64_t k, const moira_quantization& quantization);

/// What tells the ops of one kind apart: "4096 x 1024 bf16".
std::string op_detail(const moira_op_header& desc);

/// "bf16"; "type 9" for what nobody knows.
std::string weight_type_name(std::uint32_t type);

} // namespace moira
