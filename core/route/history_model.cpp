#include "core/route/history_model.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace moira {
namespace {

/// Measured on gpt-oss-20b's trace, `moira predictor evaluate`: recall at k is 78.8 % with 4 layers back, 79.9 with 8,
/// 80.0 with 24; the two further layers of the previous token add 0.3.
constexpr std::int32_t back_max = 8, ahead_max = 3;

/// Step of AdaGrad. 0.1 to 0.4 are within 0.4 points of recall there; faster learning helps short recordings.
constexpr float learning_rate = 0.3F;

/// First square in every sum, so that the first steps are no larger than the rate.
constexpr float gradient_floor = 1e-3F;

/// Weights and sums of squares.
constexpr std::uint64_t bytes_per_weight = 2 * sizeof(float);

/// No published model has more of either; keeps products far below 2^63.
constexpr std::int32_t layers_max = 1'024, experts_max = 16'384;

} // namespace

result<std::unique_ptr<history_model>> history_model::create(const dimensions& shape, std::uint64_t bytes_max) {
    if (shape.layers < 1 || shape.layers > layers_max || shape.experts < 1 || shape.experts > experts_max ||
        shape.top_k < 1 || shape.top_k > shape.experts)
        return fail(errc::invalid_argument, "found " + std::to_string(shape.layers) + " layers with " +
                                                std::to_string(shape.experts) + " experts, top " +
                                                std::to_string(shape.top_k) + ": no model looks like that");
    const auto experts = static_cast<std::uint64_t>(shape.experts);
    const auto block_bytes = static_cast<std::uint64_t>(shape.layers) * experts * experts * bytes_per_weight;
    const auto blocks =
        static_cast<std::int32_t>(std::min<std::uint64_t>(bytes_max / block_bytes, back_max + ahead_max));
    if (blocks < 2)
        return fail(errc::unsupported, "a model of the routing history of " + std::to_string(shape.layers) +
                                           " layers with " + std::to_string(shape.experts) + " experts takes " +
                                           std::to_string(2 * block_bytes) + " bytes, more than the " +
                                           std::to_string(bytes_max) + " allowed: set experts.predictor = gate");
    window looks_at;
    looks_at.ahead = std::min(blocks >= back_max ? ahead_max : 1, blocks - 1);
    looks_at.back = std::min(blocks - looks_at.ahead, back_max);
    return std::unique_ptr<history_model>(new history_model(shape, looks_at));
}

history_model::history_model(const dimensions& shape, const window& looks_at)
    : shape_(shape), window_(looks_at),
      layers_(std::make_unique<layer_state[]>(static_cast<std::size_t>(shape.layers))),
      errors_(static_cast<std::size_t>(shape.experts)) {
    // The first choice carries the most weight: about 1 / sqrt(rank) of it in published gates. Squares have mean 1.
    double harmonic = 0;
    for (std::int32_t rank = 1; rank <= shape.top_k; ++rank)
        harmonic += 1.0 / rank;
    for (std::int32_t rank = 1; rank <= shape.top_k; ++rank)
        rank_values_.push_back(static_cast<float>(std::sqrt(shape.top_k / harmonic / rank)));
    const auto experts = static_cast<std::size_t>(shape.experts);
    // As if every expert were chosen equally often.
    const double share = std::min(static_cast<double>(shape.top_k) / shape.experts, 0.99);
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        auto& state = layers_[static_cast<std::size_t>(layer)];
        state.weights.assign(features() * experts, 0.0F);
        state.gradients.assign(features() * experts, gradient_floor);
        std::fill(state.weights.end() - static_cast<std::ptrdiff_t>(experts), state.weights.end(),
                  static_cast<float>(std::log(share / (1 - share))));
    }
}

std::size_t history_model::features() const noexcept {
    return static_cast<std::size_t>(window_.back + window_.ahead) * static_cast<std::size_t>(shape_.experts) + 1;
}

void history_model::add_block(std::size_t block, std::span<const std::uint16_t> ids, std::int32_t layer,
                              std::vector<feature>& features) const {
    const auto top_k = static_cast<std::size_t>(shape_.top_k);
    const auto experts = static_cast<std::size_t>(shape_.experts);
    for (std::size_t rank = 0; rank < top_k; ++rank)
        if (const auto id = ids[static_cast<std::size_t>(layer) * top_k + rank]; id < experts)
            features.push_back({block * experts + id, rank_values_[rank]});
}

void history_model::gather(std::int32_t layer, const route_context& context, std::vector<feature>& features) const {
    features.clear();
    const auto width = static_cast<std::size_t>(shape_.layers) * static_cast<std::size_t>(shape_.top_k);
    if (context.token.size() == width)
        for (std::int32_t back = 1; back <= std::min(window_.back, layer); ++back)
            add_block(static_cast<std::size_t>(back - 1), context.token, layer - back, features);
    if (context.previous.size() == width)
        for (std::int32_t ahead = 0; ahead < std::min(window_.ahead, shape_.layers - layer); ++ahead)
            add_block(static_cast<std::size_t>(window_.back + ahead), context.previous, layer + ahead, features);
    features.push_back({this->features() - 1, 1.0F});
}

void history_model::sum(const layer_state& state, std::span<const feature> features, std::span<float> scores) const {
    const auto experts = static_cast<std::size_t>(shape_.experts);
    std::fill(scores.begin(), scores.end(), 0.0F);
    for (const auto& each : features) {
        const float* row = state.weights.data() + each.row * experts;
        for (std::size_t expert = 0; expert < experts; ++expert)
            scores[expert] += each.value * row[expert];
    }
}

bool history_model::score(std::int32_t layer, const route_context& context, std::span<float> scores) const {
    const auto& state = layers_[static_cast<std::size_t>(layer)];
    const std::unique_lock held(state.lock, std::try_to_lock);
    if (!held || state.rows < history_rows_least)
        return false;
    thread_local std::vector<feature> features;
    gather(layer, context, features);
    sum(state, features, scores);
    return true;
}

void history_model::learn(std::int32_t layer, const route_context& context, std::span<const std::uint16_t> chosen) {
    auto& state = layers_[static_cast<std::size_t>(layer)];
    const auto experts = static_cast<std::size_t>(shape_.experts);
    thread_local std::vector<feature> features;
    gather(layer, context, features);
    const std::lock_guard held(state.lock);
    sum(state, features, errors_);
    for (float& each : errors_)
        each = -1.0F / (1.0F + std::exp(-each));
    for (const auto expert : chosen)
        if (expert < experts)
            errors_[expert] += 1.0F;
    for (const auto& each : features) {
        float* weights = state.weights.data() + each.row * experts;
        float* squares = state.gradients.data() + each.row * experts;
        for (std::size_t expert = 0; expert < experts; ++expert) {
            const float slope = each.value * errors_[expert];
            squares[expert] += slope * slope;
            weights[expert] += learning_rate * slope / std::sqrt(squares[expert]);
        }
    }
    ++state.rows;
}

std::span<const float> history_model::weights(std::int32_t layer) const noexcept {
    return layers_[static_cast<std::size_t>(layer)].weights;
}

void history_model::assign(std::int32_t layer, std::span<const float> weights, std::uint64_t rows) {
    auto& state = layers_[static_cast<std::size_t>(layer)];
    const std::lock_guard held(state.lock);
    std::copy(weights.begin(), weights.end(), state.weights.begin());
    // Learning goes on gently: the recording has earned its weights.
    std::fill(state.gradients.begin(), state.gradients.end(), 1.0F);
    state.rows = rows;
}

std::uint64_t history_model::rows(std::int32_t layer) const {
    const auto& state = layers_[static_cast<std::size_t>(layer)];
    const std::lock_guard held(state.lock);
    return state.rows;
}

} // namespace moira
