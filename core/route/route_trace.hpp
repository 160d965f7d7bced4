#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace moira {

/// Limits on what a recording may claim; published models have 61 layers, 512 experts, top 10, 7,168 dimensions.
inline constexpr std::uint32_t route_trace_layers_max = 4096;
inline constexpr std::uint32_t route_trace_experts_max = 16384;
inline constexpr std::uint32_t route_trace_top_k_max = 256;
inline constexpr std::uint32_t route_trace_hidden_max = 131072;

/// Routing of one sequence, token by token. Plain data.
struct route_sequence {
    std::uint32_t tokens = 0;
    std::uint32_t prompt_tokens = 0;        ///< the first so many were prompt; MOEROUT1 does not say: 0
    std::vector<std::uint16_t> ids = {};    ///< [tokens, layers, top_k], in falling order of choice
    std::vector<float> weights = {};        ///< the same shape: gate weights
    std::vector<std::uint16_t> hidden = {}; ///< [tokens, layers, hidden] BF16: what each layer's router saw; or empty
};

/// A recording of which experts a model chose. `layers` counts layers that route; layer_numbers says which of the
/// model's layers they are.
struct route_trace {
    std::uint32_t layers = 0, experts = 0, top_k = 0;
    std::uint32_t hidden = 0;                      ///< dimensions of recorded states; 0: none recorded
    std::vector<std::uint16_t> layer_numbers = {}; ///< [layers], ascending
    std::vector<route_sequence> sequences = {};

    std::span<const std::uint16_t> ids(const route_sequence& sequence, std::uint32_t token,
                                       std::uint32_t layer) const noexcept {
        return std::span(sequence.ids).subspan((std::size_t{token} * layers + layer) * top_k, top_k);
    }

    std::uint64_t tokens() const noexcept {
        std::uint64_t sum = 0;
        for (const auto& sequence : sequences)
            sum += sequence.tokens;
        return sum;
    }
};

/// Reads MOEROUT1 and MOEROUT2; route_format.hpp has both byte by byte. A token's ids are distinct and within
/// the experts, weights are finite. Allocates what the file's size allows, whatever its header claims. Errors:
/// not_found, io_error, corrupt_file (names the place).
result<route_trace> read_route_trace(const std::filesystem::path& path);

/// The same from memory; `name` is for messages. Errors: corrupt_file.
result<route_trace> parse_route_trace(std::span<const std::byte> bytes, std::string_view name);

/// Writes MOEROUT2, to a temporary name in the same folder first. Weights are rounded to float16. Errors:
/// invalid_argument (sizes that contradict each other, ids or weights that do not exist), io_error.
result<void> write_route_trace(const route_trace& trace, const std::filesystem::path& path);

} // namespace moira
