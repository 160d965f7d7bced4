#include "core/model/model_shape.hpp"
#include "core/model/yarn.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moira {

namespace {

constexpr double full_turn = 2.0 * std::numbers::pi;

/// Llama 3.1: waves longer than the original context are stretched, short ones kept, those between are blended.
double llama3_frequency(const rope_shape& rope, double frequency) {
    const double turns = rope.original_context * frequency / full_turn; // within the original context
    if (turns > rope.high_frequency_factor)
        return frequency;
    if (turns < rope.low_frequency_factor)
        return frequency / rope.factor;
    const double keep = (turns - rope.low_frequency_factor) / (rope.high_frequency_factor - rope.low_frequency_factor);
    return (1.0 - keep) * frequency / rope.factor + keep * frequency;
}

/// The pair index whose wave makes `turns` turns within the original context.
double yarn_pair_of(const rope_shape& rope, double turns) {
    return rope.width * std::log(rope.original_context / (turns * full_turn)) / (2.0 * std::log(rope.theta));
}

/// YaRN: pairs below `low` keep their frequency, those above `high` are stretched, a ramp lies between.
double yarn_frequency(const rope_shape& rope, double frequency, std::int32_t pair) {
    double low = yarn_pair_of(rope, rope.beta_fast);
    double high = yarn_pair_of(rope, rope.beta_slow);
    if (rope.truncate) {
        low = std::floor(low);
        high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, rope.width - 1.0);
    if (low == high)
        high += 0.001; // the ramp needs a width; the value is the reference implementation's
    const double stretch = std::clamp((pair - low) / (high - low), 0.0, 1.0);
    return frequency / rope.factor * stretch + frequency * (1.0 - stretch);
}

double frequency_of(const rope_shape& rope, std::int32_t pair) {
    const double frequency = std::pow(rope.theta, -2.0 * pair / rope.width);
    switch (rope.scaling) {
    case rope_shape::scaling_kind::none:
        return frequency;
    case rope_shape::scaling_kind::linear:
        return frequency / rope.factor;
    case rope_shape::scaling_kind::llama3:
        return llama3_frequency(rope, frequency);
    case rope_shape::scaling_kind::yarn:
        return yarn_frequency(rope, frequency, pair);
    }
    return frequency;
}

/// What cosines and sines are multiplied by.
double magnitude_of(const rope_shape& rope) {
    if (rope.scaling != rope_shape::scaling_kind::yarn)
        return 1.0;
    if (rope.attention_factor)
        return *rope.attention_factor;
    if (rope.mscale != 0.0 && rope.mscale_all_dim != 0.0)
        return yarn_magnitude(rope.factor, rope.mscale) / yarn_magnitude(rope.factor, rope.mscale_all_dim);
    return yarn_magnitude(rope.factor, 1.0);
}

} // namespace

std::vector<float> rope_table(const rope_shape& rope, std::int32_t positions) {
    const auto pairs = static_cast<std::size_t>(rope.width / 2);
    std::vector<double> frequencies(pairs);
    for (std::size_t pair = 0; pair < pairs; ++pair)
        frequencies[pair] = frequency_of(rope, static_cast<std::int32_t>(pair));
    const double magnitude = magnitude_of(rope);
    std::vector<float> table(static_cast<std::size_t>(std::max(positions, 0)) * pairs * 2);
    float* row = table.data();
    for (std::int32_t position = 0; position < positions; ++position, row += 2 * pairs)
        for (std::size_t pair = 0; pair < pairs; ++pair) {
            const double angle = position * frequencies[pair];
            row[pair] = static_cast<float>(std::cos(angle) * magnitude);
            row[pairs + pair] = static_cast<float>(std::sin(angle) * magnitude);
        }
    return table;
}

} // namespace moira
