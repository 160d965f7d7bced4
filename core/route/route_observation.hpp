#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace moira {

/// Where a prediction of a layer's experts comes from.
enum class route_source : std::uint8_t {
    early,       ///< the layer's own router on the state after the attention of the layer before
    layer_input, ///< the layer's own router on that layer's input, before its attention
    control,     ///< the layer's own router on its true input: must always be right
};
inline constexpr std::size_t route_sources = 3;

constexpr std::string_view name_of(route_source source) noexcept {
    constexpr std::array<std::string_view, route_sources> names{"early", "layer_input", "control"};
    return names[static_cast<std::size_t>(source)];
}

/// Experts per token that an observation has room for: published models choose at most 10.
inline constexpr std::size_t route_ids_max = 32;

/// Stands in a list for a rank that pruning left out.
inline constexpr std::uint16_t no_observed_expert = 0xffff;

/// What one row of one layer chose, and what was predicted for it. Plain bytes: it travels through route_ring.
struct route_observation {
    using ids = std::array<std::uint16_t, route_ids_max>; ///< in falling order of choice; a model has at most 16,384
    std::uint64_t step = 0;
    std::uint16_t layer = 0;   ///< counts all layers, dense ones included
    std::uint16_t top_k = 0;   ///< entries of each list that count
    std::uint32_t sources = 0; ///< bit per route_source: its list was filled
    ids chosen{};
    std::array<ids, route_sources> predicted{};

    bool has(route_source source) const noexcept { return (sources >> static_cast<unsigned>(source) & 1U) != 0; }
    void mark(route_source source) noexcept { sources |= 1U << static_cast<unsigned>(source); }
};

} // namespace moira
