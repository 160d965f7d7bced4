#pragma once

#include "core/route/history_learner.hpp"
#include "core/route/route_calibration.hpp"
#include "core/route/route_ring.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace moira {

/// What is known about the predictions of a runtime.
struct route_report {
    std::int32_t top_k = 0;
    std::int32_t ranks = 0;                   ///< predicted per row
    route_source hints = route_source::early; ///< that hints are made of
    std::uint64_t dropped = 0;                ///< observations that were overwritten before anybody read them
    std::array<route_quality, route_sources> sources{};

    const route_quality& of(route_source source) const noexcept { return sources[static_cast<std::size_t>(source)]; }
};

/// What the layer loop and the predictor share: observations one way, probabilities the other. The thread that runs
/// steps is the ring's producer, the predictor its consumer.
class route_board {
public:
    /// `layers` of the model, `ranks` predictions per row (at most route_ids_max; 0: top_k). `hints`: the source that
    /// hints are made of.
    route_board(std::int32_t layers, std::int32_t top_k, std::size_t observations_max, std::int32_t ranks = 0,
                route_source hints = route_source::early);

    /// Observations also teach a history model. Before anybody learns.
    void teach(std::unique_ptr<history_learner> learner) { learner_ = std::move(learner); }
    bool teaches() const noexcept { return learner_ != nullptr; }

    route_ring<route_observation>& ring() noexcept { return ring_; }
    std::int32_t layers() const noexcept { return layers_; }
    std::int32_t top_k() const noexcept { return top_k_; }
    std::int32_t ranks() const noexcept { return ranks_; }
    route_source hints() const noexcept { return hints_; }

    /// Any thread. Probability that the prediction of `source` at `rank` of `layer` is chosen: so each distance has its
    /// own, for sources name it. Precondition: all exist.
    float probability(route_source source, std::int32_t layer, std::int32_t rank) const noexcept {
        return probabilities_[index(source, layer, rank)].load(std::memory_order_relaxed);
    }

    /// Any thread.
    route_report report() const;

    /// Producer: true when the predictor has to be told that there is something new; false when it was told and has
    /// not looked yet. So at most one message is on its way.
    bool announce() noexcept { return !announced_.exchange(true, std::memory_order_acq_rel); }

    /// Consumer: learns from everything in the ring (at most its capacity) and publishes what `known` says then.
    void learn(route_calibration& known);

private:
    std::size_t index(route_source source, std::int32_t layer, std::int32_t rank) const noexcept {
        return (static_cast<std::size_t>(source) * static_cast<std::size_t>(layers_) +
                static_cast<std::size_t>(layer)) *
                   static_cast<std::size_t>(ranks_) +
               static_cast<std::size_t>(rank);
    }

    void publish(const route_calibration& known);

    std::int32_t layers_, top_k_, ranks_;
    route_source hints_;
    route_ring<route_observation> ring_;
    std::unique_ptr<std::atomic<float>[]> probabilities_; // [sources, layers, ranks]
    std::unique_ptr<history_learner> learner_;            // of the consumer
    std::atomic<bool> announced_{false};
    mutable std::mutex lock_;
    route_report report_; // under lock_
};

} // namespace moira
