#pragma once

#include "core/base/ids.hpp"

#include <cstdint>
#include <vector>

namespace moira {

/// How many loads another budget would have needed: stack distances of experts, per layer (Mattson et al. 1970). An
/// expert whose distance is d is found by a least-recently-used cache of more than d slots in its layer, so one look at
/// the distances answers for every size. Other policies miss less, but by a factor that changes slowly with the size:
/// use ratios. Plain state, no lock; two bytes per expert. visit() moves an expert to the front of its layer: 0.1 to
/// 0.2 us for 32 to 128 experts on a busy core, against milliseconds for the hundreds of visits of a token.
class miss_curve {
public:
    /// Of the layers every `stride`-th is watched: a sample tells ratios as well.
    miss_curve(std::int32_t layers, std::int32_t experts, std::int32_t stride = 1);

    /// The stride with which watching costs a step nothing that could be seen.
    static std::int32_t cheap_stride(std::int32_t layers) noexcept;

    /// A wave asks for the expert. Precondition: it exists.
    void visit(expert_id expert) noexcept;

    /// Loads of watched layers that `slots` slots, shared evenly by all visited layers, would have needed, but for
    /// first visits: those need one whatever the budget.
    double repeated_loads(std::uint64_t slots) const noexcept;

    /// Of watched layers.
    std::uint64_t visits() const noexcept { return visits_; }
    std::uint64_t first_visits() const noexcept { return first_; }

    /// The fewest slots with which there are half as many repeated loads as with `slots`; 0: too few were seen to tell,
    /// or there are none.
    std::uint64_t slots_to_halve(std::uint64_t slots) const noexcept;

private:
    struct stack {
        std::uint32_t begin = 0, size = 0; // of order_: the latest expert first
    };

    std::int32_t experts_, stride_;
    std::uint64_t layers_visited_ = 0;
    std::uint64_t visits_ = 0, first_ = 0;
    std::vector<bool> layer_visited_;     // [layers]
    std::vector<stack> stacks_;           // [watched layers]
    std::vector<std::uint16_t> order_;    // [watched layers, experts]
    std::vector<std::uint64_t> distance_; // [experts]: repeated visits by distance, all layers
};

} // namespace moira
