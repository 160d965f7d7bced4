#include "core/experts/expert_history.hpp"

#include <algorithm>
#include <cmath>

namespace moira {
namespace {

/// Half-lives after which a use is worth nothing: 2^-16.
constexpr float half_lives_max = 16;

} // namespace

expert_history::expert_history(const eviction_dimensions& dimensions, float half_life)
    : dimensions_(dimensions), decay_(static_cast<std::size_t>(half_life * half_lives_max) + 1),
      uses_(static_cast<std::size_t>(dimensions.layers) * static_cast<std::size_t>(dimensions.experts)),
      visits_(static_cast<std::size_t>(dimensions.layers)), half_life_(half_life) {
    for (std::size_t visits = 0; visits < decay_.size(); ++visits)
        decay_[visits] = std::exp2(-static_cast<float>(visits) / half_life);
}

std::size_t expert_history::index_of(expert_id expert) const noexcept {
    return static_cast<std::size_t>(expert.layer) * static_cast<std::size_t>(dimensions_.experts) +
           static_cast<std::size_t>(expert.expert);
}

float expert_history::decay(std::uint32_t visits) const noexcept {
    return decay_[std::min(static_cast<std::size_t>(visits), decay_.size() - 1)];
}

void expert_history::wave_begins(const eviction_wave& wave) {
    visit_count& layer = visits_[static_cast<std::size_t>(wave.layer)];
    if (!wave.continues) {
        ++layer.visits;
        layer.decayed = layer.decayed * decay(1) + 1;
    }
    layer_ = wave.layer;
    for (const std::int32_t expert : wave.experts) {
        if (std::binary_search(wave.prompt_only.begin(), wave.prompt_only.end(), expert))
            continue;
        use& seen = uses_[index_of({wave.layer, expert})];
        seen.count = seen.count * decay(layer.visits - seen.at) + 1;
        seen.at = seen.latest = layer.visits;
    }
}

void expert_history::prime(expert_id expert, float use_rate) {
    visit_count& layer = visits_[static_cast<std::size_t>(expert.layer)];
    if (layer.visits != 0)
        return;
    layer.decayed = half_life_;
    uses_[index_of(expert)].count = half_life_ * std::clamp(use_rate, 0.0F, 1.0F);
}

float expert_history::uses(expert_id expert) const noexcept {
    const use& seen = uses_[index_of(expert)];
    return seen.count * decay(visits_[static_cast<std::size_t>(expert.layer)].visits - seen.at);
}

float expert_history::use_rate(expert_id expert) const noexcept {
    // One use in as many visits as there are experts, before anything was seen.
    const float guess = 1.0F / static_cast<float>(dimensions_.experts);
    return (uses(expert) + guess) / (visits_[static_cast<std::size_t>(expert.layer)].decayed + 1);
}

float expert_history::seen_rate(expert_id expert) const noexcept {
    const float visits = visits_[static_cast<std::size_t>(expert.layer)].decayed;
    return visits > 0 ? std::min(uses(expert) / visits, 1.0F) : 0.0F;
}

std::uint32_t expert_history::idle_visits(expert_id expert) const noexcept {
    return visits_[static_cast<std::size_t>(expert.layer)].visits - uses_[index_of(expert)].latest;
}

std::int32_t expert_history::layers_until(std::int32_t layer) const noexcept {
    const std::int32_t ahead = layer - std::max(layer_, 0);
    return ahead > 0 ? ahead : ahead + dimensions_.layers;
}

} // namespace moira
