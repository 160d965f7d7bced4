#include "core/route/route_board.hpp"

namespace moira {

route_board::route_board(std::int32_t layers, std::int32_t top_k, std::size_t observations_max)
    : layers_(layers), top_k_(top_k), ring_(observations_max),
      probabilities_(
          std::make_unique<std::atomic<float>[]>(static_cast<std::size_t>(layers) * static_cast<std::size_t>(top_k))) {
    const route_calibration nothing(layers, top_k);
    for (std::int32_t layer = 0; layer < layers_; ++layer)
        for (std::int32_t rank = 0; rank < top_k_; ++rank)
            probabilities_[index(layer, rank)].store(
                static_cast<float>(nothing.probability(route_source::early, layer, rank)), std::memory_order_relaxed);
    report_.top_k = top_k;
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
    }
    for (std::int32_t layer = 0; layer < layers_; ++layer)
        for (std::int32_t rank = 0; rank < top_k_; ++rank)
            probabilities_[index(layer, rank)].store(
                static_cast<float>(known.probability(route_source::early, layer, rank)), std::memory_order_relaxed);
    const std::lock_guard held(lock_);
    report_.dropped = ring_.dropped();
    for (const auto source : route_source_list)
        report_.sources[static_cast<std::size_t>(source)] = known.quality(source);
}

} // namespace moira
