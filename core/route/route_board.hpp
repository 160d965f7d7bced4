#pragma once

#include "core/route/route_calibration.hpp"
#include "core/route/route_ring.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

namespace moira {

/// What is known about the predictions of a runtime.
struct route_report {
    std::int32_t top_k = 0;
    std::uint64_t dropped = 0; ///< observations that were overwritten before anybody read them
    std::array<route_quality, route_sources> sources{};

    const route_quality& of(route_source source) const noexcept { return sources[static_cast<std::size_t>(source)]; }
};

/// What the layer loop and the predictor share: observations one way, probabilities the other. The thread that runs
/// steps is the ring's producer, the predictor its consumer.
class route_board {
public:
    /// `layers` of the model, `top_k` predictions per row (at most route_ids_max).
    route_board(std::int32_t layers, std::int32_t top_k, std::size_t observations_max);

    route_ring<route_observation>& ring() noexcept { return ring_; }
    std::int32_t layers() const noexcept { return layers_; }
    std::int32_t top_k() const noexcept { return top_k_; }

    /// Any thread. Probability that the early prediction at `rank` of `layer` is chosen. Precondition: both exist.
    float probability(std::int32_t layer, std::int32_t rank) const noexcept {
        return probabilities_[index(layer, rank)].load(std::memory_order_relaxed);
    }

    /// Any thread.
    route_report report() const;

    /// Producer: true when the predictor has to be told that there is something new; false when it was told and has
    /// not looked yet. So at most one message is on its way.
    bool announce() noexcept { return !announced_.exchange(true, std::memory_order_acq_rel); }

    /// Consumer: learns from everything in the ring (at most its capacity) and publishes what `known` says then.
    void learn(route_calibration& known);

private:
    std::size_t index(std::int32_t layer, std::int32_t rank) const noexcept {
        return static_cast<std::size_t>(layer) * static_cast<std::size_t>(top_k_) + static_cast<std::size_t>(rank);
    }

    std::int32_t layers_, top_k_;
    route_ring<route_observation> ring_;
    std::unique_ptr<std::atomic<float>[]> probabilities_; // [layers, top_k]
    std::atomic<bool> announced_{false};
    mutable std::mutex lock_;
    route_report report_; // under lock_
};

} // namespace moira
