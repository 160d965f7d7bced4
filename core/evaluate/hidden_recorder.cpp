#include "core/evaluate/hidden_recorder.hpp"

#include <bit>
#include <cmath>
#include <utility>

namespace moira {
namespace {

/// To nearest, ties to even; a NaN stays one.
std::uint16_t to_bf16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (std::isnan(value))
        return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

} // namespace

hidden_recorder::hidden_recorder(const model_shape& shape)
    : hidden_(static_cast<std::size_t>(shape.hidden)), layers_(static_cast<std::size_t>(shape.moe_layers())) {
    std::int32_t ordinal = 0;
    for (const bool routes : shape.layer_is_moe)
        ordinals_.push_back(routes ? ordinal++ : -1);
}

void hidden_recorder::router_input(std::int32_t layer, std::span<const float> rows) {
    // Multi-token-prediction layers route too, but belong to no token of the text.
    if (layer < 0 || static_cast<std::size_t>(layer) >= ordinals_.size() ||
        ordinals_[static_cast<std::size_t>(layer)] < 0)
        return;
    const auto ordinal = static_cast<std::size_t>(ordinals_[static_cast<std::size_t>(layer)]);
    const auto token_values = layers_ * hidden_;
    if (ordinal == 0) {
        step_begin_ = states_.size();
        states_.resize(step_begin_ + rows.size() / hidden_ * token_values);
    }
    for (std::size_t row = 0; row < rows.size() / hidden_; ++row)
        for (std::size_t column = 0; column < hidden_; ++column)
            states_[step_begin_ + row * token_values + ordinal * hidden_ + column] =
                to_bf16(rows[row * hidden_ + column]);
}

std::vector<std::uint16_t> hidden_recorder::take() {
    step_begin_ = 0;
    return std::exchange(states_, {});
}

} // namespace moira
