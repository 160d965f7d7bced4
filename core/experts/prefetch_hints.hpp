#pragma once

#include "core/base/ids.hpp"
#include "core/experts/expert_hint.hpp"
#include "core/experts/prefetch_admission.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace moira {

/// Counters of hints. given = refused + cancelled + waiting now + loads begun.
struct hint_counts {
    std::uint64_t given = 0;         ///< experts named by hints
    std::uint64_t refused = 0;       ///< of them: already here, no room, not worth it, or more than a hint may load
    std::uint64_t cancelled = 0;     ///< of them: still waiting for an idle link when the layer was asked for
    std::uint64_t absent = 0;        ///< of them: neither resident nor on their way
    std::uint64_t absent_chosen = 0; ///< of those: asked for by the layer's next visit
    std::uint64_t misses = 0;        ///< experts that layers with a hint asked for and that were absent
};

/// The hint that waits, and how hints turn out. At most one layer is hinted at a time: a newer hint replaces what has
/// not begun, and the next wave drops it. Plain state under the store's lock; allocates only when it is built.
class prefetch_hints {
public:
    /// `experts` of a layer.
    explicit prefetch_hints(std::int32_t experts);

    prefetch_policy policy; ///< as it is now

    /// `absent`: the hinted experts that have no slot, the likeliest first; `given`: how many were named in all.
    void give(std::int32_t layer, std::span<const expert_hint> absent, std::size_t given,
              std::chrono::steady_clock::time_point now);

    /// The likeliest hint that waits; whoever takes it must load or refuse it.
    std::optional<expert_hint> take();
    void refuse() noexcept { ++counts_.refused; }
    std::int32_t layer() const noexcept { return layer_; }

    /// A wave of `layer` is being acquired: what waits is dropped. Call missed() for its absent experts then.
    void wave_begins(std::int32_t layer, std::chrono::steady_clock::time_point now);

    /// The wave asks for an expert that was absent when the hint was given.
    void missed(std::int32_t layer, std::int32_t expert);

    std::size_t waiting() const noexcept { return waiting_.size(); }
    double lead_s() const noexcept { return lead_s_; }
    const hint_counts& counts() const noexcept { return counts_; }

private:
    void drop_waiting() noexcept;

    std::int32_t layer_ = -1;
    std::vector<expert_hint> waiting_; // the likeliest last; at most policy.loads_per_hint_max
    std::vector<bool> absent_;         // [experts]: of the latest hint
    std::optional<std::chrono::steady_clock::time_point> given_at_; // until its layer is asked for
    double lead_s_ = 0;
    hint_counts counts_;
};

} // namespace moira
