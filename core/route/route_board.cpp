#include "core/route/route_board.hpp"

namespace moira {

route_board::route_board(std::int32_t layers, std::int32_t top_k, std::size_t observations_max, std::int32_t ranks,
                         route_source hints)
    : layers_(layers), top_k_(top_k), ranks_(ranks > 0 ? ranks : top_k), hints_(hints), ring_(observations_max),
      probabilities_(std::make_unique<std::atomic<float>[]>(route_sources * static_cast<std::size_t>(layers) *
                                                            static_cast<std::size_t>(ranks_))) {
    publish(route_calibration(layers_, ranks_));
    report_.top_k = top_k_;
    report_.ranks = ranks_;
    report_.hints = hints_;
}

void route_board::publish(const route_calibration& known) {
    for (const auto source : route_source_list)
        for (std::int32_t layer = 0; layer < layers_; ++layer)
            for (std::int32_t rank = 0; rank < ranks_; ++rank)
                probabilities_[index(source, layer, rank)].store(
                    static_cast<float>(known.probability(source, layer, rank)), std::memory_order_relaxed);
}

route_report route_board::report() const {
    const std::lock_guard held(lock_);
    return report_;
}

void route_board::learn(route_calibration& known) {
    // First: whatever is pushed from here on is announced again.
    announced_.exchange(false, std::memory_order_acq_rel);
    for (std::size_t count = 0; count < ring_.capacity(); ++count) {
        const auto seen = ring_.pop();
        if (!seen)
            break;
        known.observe(*seen);
        if (learner_)
            learner_->observe(*seen);
    }
    publish(known);
    const std::lock_guard held(lock_);
    report_.dropped = ring_.dropped();
    for (const auto source : route_source_list)
        report_.sources[static_cast<std::size_t>(source)] = known.quality(source);
}

} // namespace moira
