#include "core/experts/miss_curve.hpp"

#include <algorithm>
#include <utility>

namespace moira {

namespace {

/// Fewer repeated loads than these are chance.
constexpr double repeated_loads_min = 64;

/// A step of a few milliseconds visits hundreds of experts: watching so many layers stays below a thousandth of it.
constexpr std::int32_t layers_watched_max = 16;

} // namespace

miss_curve::miss_curve(std::int32_t layers, std::int32_t experts, std::int32_t stride)
    : experts_(experts), stride_(stride), layer_visited_(static_cast<std::size_t>(layers)),
      stacks_(static_cast<std::size_t>((layers + stride - 1) / stride)),
      order_(stacks_.size() * static_cast<std::size_t>(experts)), distance_(static_cast<std::size_t>(experts)) {
    for (std::size_t watched = 0; watched < stacks_.size(); ++watched)
        stacks_[watched].begin = static_cast<std::uint32_t>(watched * static_cast<std::size_t>(experts));
}

std::int32_t miss_curve::cheap_stride(std::int32_t layers) noexcept {
    return std::max(1, (layers + layers_watched_max - 1) / layers_watched_max);
}

void miss_curve::visit(expert_id expert) noexcept {
    const auto layer = static_cast<std::size_t>(expert.layer);
    if (!layer_visited_[layer]) {
        layer_visited_[layer] = true;
        ++layers_visited_;
    }
    if (expert.layer % stride_ != 0)
        return;
    auto& seen = stacks_[static_cast<std::size_t>(expert.layer / stride_)];
    const auto wanted = static_cast<std::uint16_t>(expert.expert);
    std::uint16_t* const order = order_.data() + seen.begin;
    ++visits_;
    // One pass: each place takes what stood before it, until the wanted one is found.
    std::uint16_t before = wanted;
    for (std::uint32_t distance = 0; distance < seen.size; ++distance) {
        std::swap(order[distance], before);
        if (before == wanted) {
            ++distance_[distance];
            return;
        }
    }
    order[seen.size] = before;
    ++first_;
    ++seen.size;
}

double miss_curve::repeated_loads(std::uint64_t slots) const noexcept {
    if (layers_visited_ == 0)
        return 0;
    // Layers share what does not divide evenly.
    const double per_layer = static_cast<double>(slots) / static_cast<double>(layers_visited_);
    double loads = 0;
    for (std::size_t distance = 0; distance < distance_.size(); ++distance)
        loads += static_cast<double>(distance_[distance]) *
                 std::clamp(static_cast<double>(distance) + 1 - per_layer, 0.0, 1.0);
    return loads;
}

std::uint64_t miss_curve::slots_to_halve(std::uint64_t slots) const noexcept {
    const double now = repeated_loads(slots);
    if (now < repeated_loads_min)
        return 0;
    std::uint64_t too_few = slots, enough = layers_visited_ * static_cast<std::uint64_t>(experts_);
    while (enough > too_few + 1) {
        const auto middle = too_few + (enough - too_few) / 2;
        (repeated_loads(middle) * 2 <= now ? enough : too_few) = middle;
    }
    return enough;
}

} // namespace moira
