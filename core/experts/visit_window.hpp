#pragma once

#include "core/experts/residency_table.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace moira {

/// Uses of experts that a store remembers at most, for the question what an optimum would have loaded: some 170 tokens
/// of 48 layers with top 8, in 320 KiB. Answering takes a few milliseconds of a core.
inline constexpr std::size_t regret_window_uses_max = std::size_t{1} << 16;

/// The latest visits of a store, and what was in memory before the first of them.
struct visit_record {
    std::int32_t layers = 0, experts = 0;
    std::uint64_t slots = 0;
    std::vector<std::uint16_t> layer;        ///< [visits]
    std::vector<std::uint32_t> wanted_begin; ///< [visits + 1], of `wanted`
    std::vector<std::uint16_t> wanted;
    std::vector<std::uint32_t> resident;    ///< layer x experts + expert; on their way included
    std::vector<std::uint64_t> layer_loads; ///< [layers]: begun during these visits, on demand or ahead of need
};

/// Remembers the latest visits in two halves: when the newer one is full, the older one is overwritten. So between half
/// of regret_window_uses_max and all of it is there, once there was that much. Plain state under the store's lock;
/// allocates when it is built, and in copy().
class visit_window {
public:
    visit_window(std::int32_t layers, std::int32_t experts);

    /// Forgets everything: the store has so many slots from now on.
    void restart(slot_index slots, const residency_table& table);

    /// A wave of distinct experts is about to be pinned; `continues`: in the visit before it. Numbers are checked.
    void visit(std::int32_t layer, std::span<const std::int32_t> experts, bool continues, const residency_table& table);

    /// An expert of the layer is being loaded.
    void loading(std::int32_t layer) noexcept { ++halves_[newer_].layer_loads[static_cast<std::size_t>(layer)]; }

    visit_record copy() const;

private:
    struct half {
        std::vector<std::uint16_t> layer, wanted;
        std::vector<std::uint32_t> wanted_begin; // [visits]
        std::vector<std::uint32_t> resident;
        std::vector<std::uint64_t> layer_loads;
    };

    void begin(half& next, const residency_table& table);

    std::int32_t layers_, experts_;
    std::uint64_t slots_ = 0;
    std::array<half, 2> halves_;
    std::size_t newer_ = 0;
};

} // namespace moira
