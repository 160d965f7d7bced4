#include "core/experts/miss_curve.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Fewer repeated loads than these are chance.
constexpr double repeated_loads_min = 64;

} // namespace

miss_curve::miss_curve(std::int32_t layers, std::int32_t experts)
    : experts_(experts), stacks_(static_cast<std::size_t>(layers)),
      order_(static_cast<std::size_t>(layers) * static_cast<std::size_t>(experts)),
      distance_(static_cast<std::size_t>(experts)) {
    for (std::size_t layer = 0; layer < stacks_.size(); ++layer)
        stacks_[layer].begin = static_cast<std::uint32_t>(layer * static_cast<std::size_t>(experts));
}

void miss_curve::visit(expert_id expert) noexcept {
    auto& seen = stacks_[static_cast<std::size_t>(expert.layer)];
    const auto wanted = static_cast<std::uint16_t>(expert.expert);
    const auto begin = order_.begin() + static_cast<std::ptrdiff_t>(seen.begin);
    const auto end = begin + static_cast<std::ptrdiff_t>(seen.size);
    const auto place = std::find(begin, end, wanted);
    ++visits_;
    if (place == end) {
        ++first_;
        layers_visited_ += seen.size == 0;
        ++seen.size;
    } else {
        ++distance_[static_cast<std::size_t>(place - begin)];
    }
    std::copy_backward(begin, place, place + 1);
    *begin = wanted;
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
