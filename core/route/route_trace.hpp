#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace moira {

/// Routing of one sequence, token by token. Plain data.
struct route_sequence {
    std::uint32_t tokens = 0;
    std::uint32_t prompt_tokens = 0;    ///< the first so many were prompt; MOEROUT1 does not say: 0
    std::vector<std::uint16_t> ids;     ///< [tokens, layers, top_k], in falling order of choice
    std::vector<float> weights;         ///< the same shape: gate weights
    std::vector<std::uint16_t> hidden;  ///< [tokens, layers, hidden] BF16: what each layer's router saw; or empty
};

/// A recording of which experts a model chose. `layers` counts layers that route; layer_numbers says which of the
/// model's layers they are.
struct route_trace {
    std::uint32_t layers = 0, experts = 0, top_k = 0;
    std::uint32_t hidden = 0;                  ///< dimensions of recorded states; 0: none recorded
    std::vector<std::uint16_t> layer_numbers;  ///< [layers], ascending
    std::vector<route_sequence> sequences;

    std::span<const std::uint16_t> ids(const route_sequence& sequence, std::uint32_t token,
                                       std::uint32_t layer) const noexcept {
        return std::span(sequence.ids).subspan((std::size_t{token} * layers + layer) * top_k, top_k);
    }
};

/// Reads MOEROUT1 (8-bit ids, decode only) and MOEROUT2 (16-bit ids, layer numbers, prompt lengths, optional states).
/// Errors: not_found, io_error, corrupt_file (names the place).
result<route_trace> read_route_trace(const std::filesystem::path& path);

/// Writes MOEROUT2, to a temporary name first. Errors: invalid_argument (sizes that contradict each other), io_error.
result<void> write_route_trace(const route_trace& trace, const std::filesystem::path& path);

} // namespace moira
