#pragma once

#include "core/route/route_trace.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace moira::route_format {

/// MOEROUT2, little-endian, nothing padded:
///
///     8            "MOEROUT2"
///     4 x 6        u32: layers, experts, top_k, hidden, sequences, 0 (reserved: later versions)
///     2 x layers   u16: which of the model's layers these are, ascending
///     each sequence:
///       4          u32 tokens, at least 1
///       4          u32 prompt tokens: the first so many were prompt
///       2 x t*l*k  u16 expert ids: token by token, then layer by layer, in falling order of choice
///       2 x t*l*k  float16 gate weights in the same order
///       2 x t*l*h  bfloat16 states that each layer's router saw, token by token, then layer by layer (h may be 0)
///     8            XXH64 (seed 0) of everything before
///
/// MOEROUT1, as found in public collections, decode only: "MOEROUT1"; u16 layers, experts, top_k, sequences; each
/// sequence: u32 tokens, ids of one byte, float16 weights. Layers count from 0; no checksum.
inline constexpr std::string_view magic_1 = "MOEROUT1", magic_2 = "MOEROUT2";
inline constexpr std::size_t magic_bytes = 8, header_fields = 6;
inline constexpr std::uint32_t experts_max_1 = 256; ///< ids of one byte

/// XXH64 over what passes.
class hash {
public:
    hash();
    ~hash();
    hash(const hash&) = delete;
    hash& operator=(const hash&) = delete;
    void update(std::span<const std::byte> bytes) noexcept;
    std::uint64_t digest() const noexcept;

private:
    struct state;
    std::unique_ptr<state> state_;
};

/// Whether layers, experts, top_k and hidden are within the limits; else why not.
tl::expected<void, std::string> check_sizes(const route_trace& trace);

bool ascending(std::span<const std::uint16_t> numbers) noexcept;

/// The first visit (token x layers + layer) whose ids are not distinct experts of the model. `seen`: [experts], any
/// content: scratch that saves an allocation per sequence.
std::optional<std::size_t> find_bad_ids(const route_trace& trace, std::span<const std::uint16_t> ids,
                                        std::vector<std::uint32_t>& seen);

} // namespace moira::route_format
