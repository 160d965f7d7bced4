#pragma once

#include "core/base/ids.hpp"
#include "core/experts/expert_hint.hpp"
#include "core/experts/prefetch_admission.hpp"

#include <array>
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
    std::uint64_t cancelled = 0;     ///< of them: still waiting for an idle link when the layer was asked for, or stale
    std::uint64_t absent = 0;        ///< of them: neither resident nor on their way
    std::uint64_t absent_chosen = 0; ///< of those: asked for by the layer's next visit
    std::uint64_t misses = 0;        ///< experts that layers with a hint asked for and that were absent
};

/// How far ahead a hint may look, in visits of layers with experts. While a model computes its logits, a disk reads the
/// absent experts of three or four layers: with hints for two, it was idle for a sixth of the time.
inline constexpr std::size_t hint_visits_max = 4;

/// The hints that wait, and how they turn out. One layer is hinted for each of the next hint_visits_max visits: a newer
/// hint for the same visit replaces what has not begun, the visit drops it, and so does the visit of another layer in
/// its place. Plain state under the store's lock; allocates only when it is built.
class prefetch_hints {
public:
    /// `experts` of a layer.
    explicit prefetch_hints(std::int32_t experts);

    prefetch_policy policy; ///< as it is now

    /// `absent`: the hinted experts that have no slot, the likeliest first; `given`: how many were named in all.
    /// `visits`: 1 when the layer is the next to be visited, 2 when it is the one behind that, up to hint_visits_max.
    void give(std::int32_t layer, std::span<const expert_hint> absent, std::size_t given,
              std::chrono::steady_clock::time_point now, std::size_t visits = 1);

    struct taken_hint {
        std::int32_t layer = 0, expert = 0;
        float probability = 0;
    };

    /// The likeliest hint that waits for the nearest layer; whoever takes it must load or refuse it. Its probability is
    /// corrected: predictions are calibrated over all experts, but those that are absent are chosen less often. How
    /// much less is measured for either distance.
    std::optional<taken_hint> take();
    void refuse() noexcept { ++counts_.refused; }

    /// A wave of `layer` is being acquired: what waits for it is dropped. Call missed() for its absent experts then.
    void wave_begins(std::int32_t layer, std::chrono::steady_clock::time_point now);

    /// The wave asks for an expert that was absent when the hint was given.
    void missed(std::int32_t layer, std::int32_t expert);

    /// Corrected probability of the likeliest absent expert of a hint, of the best ones lately; 1 before any was given.
    double likeliest() const noexcept { return likeliest_; }

    std::size_t waiting() const noexcept;
    double lead_s() const noexcept { return lead_s_; } ///< from a hint to the visit it was for, on average
    const hint_counts& counts() const noexcept { return counts_; }

private:
    struct open_hint {
        std::int32_t layer = -1;          // -1: none
        std::size_t visits = 1;           // ahead, when the hint was given
        std::vector<expert_hint> waiting; // the likeliest last; at most policy.loads_per_hint_max
        std::vector<std::uint8_t> absent; // [experts]: so many visits ahead, when it was first named; 0: not
        std::chrono::steady_clock::time_point given_at;
    };

    void drop_waiting(open_hint& hint) noexcept;
    void drop(open_hint& hint) noexcept;
    double correction(std::size_t visits) const noexcept;

    std::int32_t visited_ = -1;                   // layer of the newest wave
    open_hint judged_;                            // of that visit
    std::array<open_hint, hint_visits_max> open_; // of the visits to come, the next one first
    double lead_s_ = 0;
    /// Sums over absent experts: probabilities, and whether they were chosen.
    struct promises {
        double promised = 0, kept = 0;
    };
    std::array<promises, hint_visits_max> promises_; // by visits ahead, from 1
    double likeliest_ = 1;
    hint_counts counts_;
};

} // namespace moira
