#include "core/execute/forced_routes.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

namespace moira {

namespace {

/// Far longer than the reads of one layer's experts take on any disk.
constexpr auto settle_time_max = std::chrono::seconds(10);
constexpr auto settle_look = std::chrono::microseconds(50);

/// Whatever was loaded is in memory or was evicted again.
bool settled(const expert_store_statistics& now) noexcept {
    return now.hints_waiting == 0 &&
           now.demand_loads + now.prefetch_loads + now.profile_loads == now.resident + now.evictions;
}

} // namespace

forced_routes::forced_routes(const route_trace& trace, trace_predictor* predictor)
    : trace_(&trace), predictor_(predictor), of_rows_(trace.experts) {}

result<forced_routes> forced_routes::create(const route_trace& trace, const model_shape& shape, std::int32_t rows,
                                            trace_predictor* predictor) {
    const auto layers = static_cast<std::uint32_t>(shape.moe_layers());
    if (trace.experts != static_cast<std::uint32_t>(shape.moe.experts) ||
        trace.top_k != static_cast<std::uint32_t>(shape.moe.top_k) || trace.layers != layers)
        return fail(errc::invalid_argument, "the recording has " + std::to_string(trace.layers) + " layers of " +
                                                std::to_string(trace.experts) + " experts, top " +
                                                std::to_string(trace.top_k) + "; this model needs " +
                                                std::to_string(layers) + " of " + std::to_string(shape.moe.experts) +
                                                ", top " + std::to_string(shape.moe.top_k));
    const bool empty =
        trace.sequences.empty() || std::any_of(trace.sequences.begin(), trace.sequences.end(),
                                               [](const route_sequence& sequence) { return sequence.tokens == 0; });
    if (empty || rows < 1)
        return fail(errc::invalid_argument, "a recording without tokens cannot be played");
    forced_routes made(trace, predictor);
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        const bool routed = shape.layer_is_moe[static_cast<std::size_t>(layer)];
        made.recorded_.push_back(routed ? static_cast<std::int32_t>(made.of_model_.size()) : -1);
        if (routed)
            made.of_model_.push_back(layer);
    }
    for (std::int32_t row = 0; row < rows; ++row)
        made.rows_.push_back({static_cast<std::uint32_t>(static_cast<std::size_t>(row) % trace.sequences.size()), 0});
    return made;
}

route_position forced_routes::after(route_position from) const {
    if (++from.token < trace_->sequences[from.sequence].tokens)
        return from;
    return {static_cast<std::uint32_t>((from.sequence + rows_.size()) % trace_->sequences.size()), 0};
}

void forced_routes::advance() {
    for (route_position& row : rows_)
        row = after(row);
}

void forced_routes::choose(std::int32_t layer, std::span<std::int32_t> ids, std::span<float> weights) {
    const auto number = recorded_[static_cast<std::size_t>(layer)];
    const auto top_k = std::size_t{trace_->top_k};
    for (std::size_t row = 0; row < rows_.size() && (row + 1) * top_k <= ids.size(); ++row) {
        const route_position at = rows_[row];
        const route_sequence& sequence = trace_->sequences[at.sequence];
        const auto chosen = trace_->ids(sequence, at.token, static_cast<std::uint32_t>(number));
        std::copy(chosen.begin(), chosen.end(), ids.begin() + static_cast<std::ptrdiff_t>(row * top_k));
        const auto first = (std::size_t{at.token} * trace_->layers + static_cast<std::size_t>(number)) * top_k;
        const auto gates = std::span(sequence.weights).subspan(first, top_k);
        std::copy(gates.begin(), gates.end(), weights.begin() + static_cast<std::ptrdiff_t>(row * top_k));
        if (predictor_)
            predictor_->observe(at, static_cast<std::uint32_t>(number));
    }
}

/// What all rows together will want of a layer of the recording, `steps` tokens from now.
void forced_routes::hint(std::uint32_t layer, std::uint32_t steps, std::uint32_t visits, expert_store& store) {
    for (route_position at : rows_) {
        for (std::uint32_t step = 0; step < steps; ++step)
            at = after(at);
        predictor_->predict(at, layer, of_row_);
        of_rows_.add(of_row_);
        of_row_.clear();
    }
    for (const predicted_expert& wanted : of_rows_.take())
        hints_.push_back({wanted.expert, wanted.probability});
    store.hint(of_model_[layer], hints_, visits, visits < layers_ahead(*trace_));
    hints_.clear();
}

void forced_routes::give_hints(std::int32_t layer, expert_store& store) {
    if (!predictor_)
        return;
    const auto layers = static_cast<std::uint32_t>(of_model_.size());
    const auto now = static_cast<std::uint32_t>(recorded_[static_cast<std::size_t>(layer)]);
    for (std::uint32_t ahead = 1; ahead <= layers_ahead(*trace_); ++ahead) {
        const std::uint32_t wanted = (now + ahead) % layers, steps = (now + ahead) / layers;
        hint(wanted, steps, ahead, store);
    }
    if (settle_)
        settle(store);
}

void forced_routes::settle(const expert_store& store) {
    const auto end = std::chrono::steady_clock::now() + settle_time_max;
    while (!settled(store.statistics())) {
        if (std::chrono::steady_clock::now() > end) {
            settle_ = false;
            return;
        }
        std::this_thread::sleep_for(settle_look);
    }
}

} // namespace moira
