#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// Experts that layers asked for, visit by visit. A view; ids are checked by whoever makes it.
struct visit_list {
    std::uint32_t layers = 0, experts = 0;
    std::span<const std::uint16_t> layer;        ///< [visits], below `layers`
    std::span<const std::uint32_t> wanted_begin; ///< [visits + 1]: where each visit's experts begin in `wanted`
    std::span<const std::uint16_t> wanted;       ///< below `experts`, distinct within a visit

    std::size_t visits() const noexcept { return layer.size(); }
    std::size_t index_of(std::size_t visit, std::size_t place) const noexcept {
        return std::size_t{layer[visit]} * experts + wanted[place];
    }
};

/// What no cache that loads on demand can beat.
struct optimal_counts {
    std::uint64_t hits = 0, loads = 0;
    std::vector<std::uint64_t> layer_loads = {}; ///< [layers]
    double hit_rate() const noexcept {
        return hits + loads == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(hits + loads);
    }
};

struct optimum_wish {
    std::uint64_t slots = 0;
    bool bypass = true;                           ///< an expert may be computed and not kept
    std::size_t first_counted = 0;                ///< visits before this one are played and not counted
    std::span<const std::uint32_t> resident = {}; ///< in memory at the beginning: layer x experts + expert
};

/// Belady's optimum ("A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 1966):
/// whoever is wanted again farthest from now leaves. A visit's experts are wanted together. With `bypass` an expert is
/// not kept when it is wanted again later than everything that stays; without it, what a visit wanted is resident
/// afterwards (but for visits that want more than there are slots). O(uses x log residents), some 100 ns per use.
optimal_counts count_optimal_loads(const visit_list& visits, const optimum_wish& wish);

} // namespace moira
