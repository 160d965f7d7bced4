#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace moira {

/// Where a prediction of a layer's experts comes from.
enum class route_source : std::uint8_t {
    early,       ///< the layer's own router on the state after the attention of the layer before: `gate`
    layer_input, ///< the layer's own router on that layer's input, before its attention
    control,     ///< the layer's own router on its true input: must always be right
    gate2,       ///< as early, a layer sooner: on the state after the attention two layers before
    heads,       ///< a trained linear map of what the router of the layer before saw
    heads2,      ///< the same of the layer before that one
    history,     ///< a linear model of what this token and the one before chose
    previous,    ///< what the token before chose
    prompt,      ///< what was chosen most often lately, by the sequence itself first
    history2,    ///< as history, without the layer in between
    drafted,     ///< what a rejected draft chose in the same place, a token ago
};
inline constexpr std::array route_source_list{
    route_source::early,  route_source::layer_input, route_source::control, route_source::gate2,
    route_source::heads,  route_source::heads2,      route_source::history, route_source::previous,
    route_source::prompt, route_source::history2,    route_source::drafted,
};
inline constexpr std::size_t route_sources = route_source_list.size();

constexpr std::string_view name_of(route_source source) noexcept {
    constexpr std::array<std::string_view, route_sources> names{"early",  "layer_input", "control", "gate2",
                                                                "heads",  "heads2",      "history", "previous",
                                                                "prompt", "history2",    "drafted"};
    return names[static_cast<std::size_t>(source)];
}

/// Predictions per row that an observation has room for: published models choose at most 10 experts, and twice as many
/// are predicted.
inline constexpr std::size_t route_ids_max = 32;

/// What one row of one layer chose, and what was predicted for it. Plain bytes: it travels through route_ring.
struct route_observation {
    using ids = std::array<std::uint16_t, route_ids_max>; ///< in falling order of choice; a model has at most 16,384
    std::uint64_t step = 0;
    std::uint16_t layer = 0;         ///< counts all layers, dense ones included
    std::uint16_t top_k = 0;         ///< experts chosen
    std::uint16_t left_out = 0;      ///< of these, the last in order: pruning kept them from running
    std::uint16_t ranks = 0;         ///< predicted by each source, the likeliest first; 0: top_k
    std::int32_t slot = -1;          ///< of the token in the KV cache, which names its sequence; -1: not told
    std::int32_t previous_slot = -1; ///< of the token before it; -1: there is none
    std::uint32_t sources = 0;       ///< bit per route_source: its list was filled
    ids chosen{};
    std::array<ids, route_sources> predicted{};

    std::size_t predicted_ranks() const noexcept { return ranks > 0 ? ranks : top_k; }
    std::size_t ran() const noexcept { return top_k - std::min(left_out, top_k); }
    bool has(route_source source) const noexcept { return (sources >> static_cast<unsigned>(source) & 1U) != 0; }
    void mark(route_source source) noexcept { sources |= 1U << static_cast<unsigned>(source); }
};

} // namespace moira
