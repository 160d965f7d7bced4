#include "core/route/route_memory.hpp"

#include <algorithm>

namespace moira {
namespace {

/// A choice counts half after some 70 tokens: the length of a paragraph. On gpt-oss-20b's trace anything between 30 and
/// 300 ranks within a point of recall.
constexpr float worth_growth = 1.01F;

/// Counts are scaled back here, far from where floats end.
constexpr float worth_max = 1e20F;

} // namespace

route_memory::route_memory(std::int32_t layers, std::int32_t top_k, std::size_t tokens_max)
    : width_(static_cast<std::size_t>(std::max(layers, 0)) * static_cast<std::size_t>(std::max(top_k, 0))),
      owners_(std::max<std::size_t>(tokens_max, 1)), ids_(owners_.size() * width_, route_unknown) {}

std::span<std::uint16_t> route_memory::token(std::int32_t slot, std::uint64_t step) {
    const auto found =
        std::find_if(owners_.begin(), owners_.end(), [slot](const owner& each) { return each.slot == slot; });
    std::size_t index = static_cast<std::size_t>(found - owners_.begin());
    if (found == owners_.end()) {
        index = oldest_;
        oldest_ = (oldest_ + 1) % owners_.size();
    } else if (found->step == step) {
        return at(index);
    }
    owners_[index] = {slot, step};
    const auto ids = at(index);
    std::fill(ids.begin(), ids.end(), route_unknown);
    return ids;
}

std::span<const std::uint16_t> route_memory::find(std::int32_t slot) const noexcept {
    for (std::size_t index = 0; slot >= 0 && index < owners_.size(); ++index)
        if (owners_[index].slot == slot)
            return std::span(ids_).subspan(index * width_, width_);
    return {};
}

route_popularity::route_popularity(std::int32_t layers, std::int32_t experts)
    : experts_(static_cast<std::size_t>(experts)), counts_(static_cast<std::size_t>(layers) * experts_, 0.0F),
      worth_(static_cast<std::size_t>(layers), 1.0F) {}

void route_popularity::clear() {
    std::fill(counts_.begin(), counts_.end(), 0.0F);
    std::fill(worth_.begin(), worth_.end(), 1.0F);
}

void route_popularity::observe(std::int32_t layer, std::span<const std::uint16_t> chosen) {
    auto& worth = worth_[static_cast<std::size_t>(layer)];
    const auto counts = std::span(counts_).subspan(static_cast<std::size_t>(layer) * experts_, experts_);
    for (const auto expert : chosen)
        if (expert < experts_)
            counts[expert] += worth;
    worth *= worth_growth;
    if (worth < worth_max)
        return;
    for (float& count : counts)
        count /= worth;
    worth = 1.0F;
}

} // namespace moira
