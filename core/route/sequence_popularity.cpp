#include "core/route/sequence_popularity.hpp"

#include <algorithm>

namespace moira {

void sequence_popularity::observe(std::uint64_t sequence, std::int32_t position, bool once, std::int32_t layer,
                                  std::span<const std::uint16_t> chosen) {
    if (sequence == no_sequence || layer < 0 || layer >= layers_)
        return;
    auto& known = of(sequence);
    known.latest = ++choices_;
    auto& counted = known.counted[static_cast<std::size_t>(layer)];
    if (once && position < counted)
        return;
    counted = std::max(counted, position + 1);
    known.popularity.observe(layer, chosen);
}

const route_popularity* sequence_popularity::find(std::uint64_t sequence) const noexcept {
    if (sequence == no_sequence)
        return nullptr;
    for (const auto& each : entries_)
        if (each->sequence == sequence)
            return &each->popularity;
    return nullptr;
}

void sequence_popularity::forget(std::uint64_t sequence) noexcept {
    for (const auto& each : entries_)
        if (each->sequence == sequence) {
            each->sequence = no_sequence;
            each->latest = 0;
        }
}

std::size_t sequence_popularity::sequences() const noexcept {
    return static_cast<std::size_t>(std::count_if(entries_.begin(), entries_.end(),
                                                  [](const auto& each) { return each->sequence != no_sequence; }));
}

/// Makes room where the sequence is new.
sequence_popularity::entry& sequence_popularity::of(std::uint64_t sequence) {
    const auto least = std::min_element(entries_.begin(), entries_.end(), [sequence](const auto& a, const auto& b) {
        const bool a_is = a->sequence == sequence, b_is = b->sequence == sequence;
        return a_is != b_is ? a_is : a->latest < b->latest;
    });
    if (least != entries_.end() && (*least)->sequence == sequence)
        return **least;
    entry* made = least == entries_.end() ? nullptr : least->get();
    if (!made || (made->sequence != no_sequence && entries_.size() < sequence_popularities_max))
        made =
            entries_
                .emplace_back(std::make_unique<entry>(entry{
                    no_sequence, 0, std::vector<std::int32_t>(static_cast<std::size_t>(layers_)), {layers_, experts_}}))
                .get();
    made->sequence = sequence;
    std::fill(made->counted.begin(), made->counted.end(), 0);
    made->popularity.clear();
    return *made;
}

} // namespace moira
