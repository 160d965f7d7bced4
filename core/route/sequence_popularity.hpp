#pragma once

#include "core/route/route_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace moira {

/// Sequences of which it is remembered what they chose: as many as rows of a step are predicted. qwen3-30b-a3b's take
/// 25 KB each.
inline constexpr std::size_t sequence_popularities_max = 64;

/// What each sequence chose lately, its prompt included: a prior of its own. The one that was longest without a choice
/// is forgotten for a new one. Plain state, one thread; allocates when there are more sequences than ever.
class sequence_popularity {
public:
    sequence_popularity(std::int32_t layers, std::int32_t experts) : layers_(layers), experts_(experts) {}

    /// The token at `position` of `sequence` chose `chosen` in `layer`. Positions may come again, when a prompt is
    /// computed anew: with `once` they count once.
    void observe(std::uint64_t sequence, std::int32_t position, bool once, std::int32_t layer,
                 std::span<const std::uint16_t> chosen);

    /// Null: nobody remembers.
    const route_popularity* find(std::uint64_t sequence) const noexcept;

    /// The sequence has ended.
    void forget(std::uint64_t sequence) noexcept;

    /// Of which something is known.
    std::size_t sequences() const noexcept;

private:
    struct entry {
        std::uint64_t sequence = no_sequence; ///< no_sequence: free
        std::uint64_t latest = 0;             ///< number of its newest choice
        std::vector<std::int32_t> counted;    ///< [layers]: positions below have been counted
        route_popularity popularity;
    };

    entry& of(std::uint64_t sequence);

    std::int32_t layers_, experts_;
    std::uint64_t choices_ = 0;
    std::vector<std::unique_ptr<entry>> entries_; ///< at most sequence_popularities_max
};

} // namespace moira
