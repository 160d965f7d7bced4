#include "core/experts/visit_window.hpp"

#include <algorithm>

namespace moira {
namespace {

constexpr std::size_t half_uses_max = regret_window_uses_max / 2;

/// Visits with fewer than two experts on average fill a half sooner.
constexpr std::size_t half_visits_max = half_uses_max / 2;

} // namespace

visit_window::visit_window(std::int32_t layers, std::int32_t experts) : layers_(layers), experts_(experts) {
    for (half& each : halves_) {
        each.layer.reserve(half_visits_max);
        each.wanted_begin.reserve(half_visits_max);
        each.wanted.reserve(half_uses_max);
        each.resident.reserve(static_cast<std::size_t>(layers) * static_cast<std::size_t>(experts));
        each.layer_loads.resize(static_cast<std::size_t>(layers));
    }
}

void visit_window::restart(slot_index slots, const residency_table& table) {
    slots_ = static_cast<std::uint64_t>(slots);
    halves_[1 - newer_].layer.clear();
    begin(halves_[newer_], table);
}

void visit_window::begin(half& next, const residency_table& table) {
    next.layer.clear();
    next.wanted.clear();
    next.wanted_begin.clear();
    next.resident.clear();
    std::fill(next.layer_loads.begin(), next.layer_loads.end(), std::uint64_t{0});
    for (std::int32_t layer = 0; layer < layers_; ++layer)
        for (std::int32_t expert = 0; expert < experts_; ++expert)
            if (table.holds({layer, expert}))
                next.resident.push_back(static_cast<std::uint32_t>(layer * experts_ + expert));
}

void visit_window::visit(std::int32_t layer, std::span<const std::int32_t> experts, bool continues,
                         const residency_table& table) {
    half* now = &halves_[newer_];
    const auto number = static_cast<std::uint16_t>(layer);
    const bool same = continues && !now->layer.empty() && now->layer.back() == number;
    // A visit stays whole: what follows of it are at most all experts of its layer.
    const bool full =
        now->layer.size() == half_visits_max || now->wanted.size() + static_cast<std::size_t>(experts_) > half_uses_max;
    if (!same && full) {
        newer_ = 1 - newer_;
        now = &halves_[newer_];
        begin(*now, table);
    }
    if (!same) {
        now->layer.push_back(number);
        now->wanted_begin.push_back(static_cast<std::uint32_t>(now->wanted.size()));
    }
    for (const std::int32_t expert : experts)
        now->wanted.push_back(static_cast<std::uint16_t>(expert));
}

visit_record visit_window::copy() const {
    visit_record made;
    made.layers = layers_;
    made.experts = experts_;
    made.slots = slots_;
    made.layer_loads.resize(static_cast<std::size_t>(layers_));
    const half& newer = halves_[newer_];
    const half& older = halves_[1 - newer_];
    made.resident = older.layer.empty() ? newer.resident : older.resident;
    for (const half* part : {&older, &newer}) {
        if (part->layer.empty())
            continue;
        const auto first = static_cast<std::uint32_t>(made.wanted.size());
        made.layer.insert(made.layer.end(), part->layer.begin(), part->layer.end());
        made.wanted.insert(made.wanted.end(), part->wanted.begin(), part->wanted.end());
        for (const auto begin : part->wanted_begin)
            made.wanted_begin.push_back(first + begin);
        for (std::size_t layer = 0; layer < part->layer_loads.size(); ++layer)
            made.layer_loads[layer] += part->layer_loads[layer];
    }
    made.wanted_begin.push_back(static_cast<std::uint32_t>(made.wanted.size()));
    return made;
}

} // namespace moira
