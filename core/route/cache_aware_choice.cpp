#include "core/route/cache_aware_choice.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Keeps 0 / 0 away when every chosen score is 0, as the router's own op does.
constexpr float normalize_epsilon = 1e-20F;

std::size_t place_of(std::int32_t id) {
    return static_cast<std::size_t>(id);
}

/// The candidate of the row that may stand in at `rank`, or `rank` itself.
std::size_t stand_in(const cache_aware_rule& rule, std::span<const std::int32_t> row, std::span<const float> scores,
                     std::size_t rank, std::span<const std::uint8_t> present, std::span<const std::int32_t> chosen) {
    const double least = (1.0 - rule.window) * static_cast<double>(scores[rank]);
    for (std::size_t other = rank + 1; other < row.size(); ++other) {
        // A NaN is in no window.
        if (present[place_of(row[other])] == 0 || !(static_cast<double>(scores[other]) >= least))
            continue;
        if (std::find(chosen.begin(), chosen.end(), row[other]) == chosen.end())
            return other;
    }
    return rank;
}

void weigh(const cache_aware_rule& rule, std::span<float> weights) {
    float sum = normalize_epsilon;
    for (const float weight : weights)
        sum += weight;
    for (float& weight : weights)
        weight = (rule.normalize ? weight / sum : weight) * rule.scale;
}

} // namespace

std::size_t choose_cache_aware(const cache_aware_rule& rule, const ranked_experts& ranked,
                               std::span<std::uint8_t> present, std::span<std::int32_t> ids, std::span<float> weights) {
    const auto rows = ids.size() / rule.top_k;
    const auto sacred = std::clamp<std::size_t>(rule.sacred_ranks, 1, rule.top_k);
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t rank = 0; rank < sacred; ++rank)
            present[place_of(ranked.ids[row * rule.candidates + rank])] = 1;
    std::size_t replaced = 0;
    for (std::size_t row = 0; row < rows; ++row) {
        const auto choices = ranked.ids.subspan(row * rule.candidates, rule.candidates);
        const auto scores = ranked.scores.subspan(row * rule.candidates, rule.candidates);
        const auto chosen = ids.subspan(row * rule.top_k, rule.top_k);
        const auto kept = weights.subspan(row * rule.top_k, rule.top_k);
        // Every rank starts with its own expert, so that no stand-in is an expert of a later rank of this row.
        std::copy_n(choices.begin(), rule.top_k, chosen.begin());
        std::copy_n(scores.begin(), rule.top_k, kept.begin());
        for (std::size_t rank = sacred; rank < rule.top_k; ++rank) {
            if (present[place_of(choices[rank])] != 0)
                continue;
            const auto other = stand_in(rule, choices, scores, rank, present, chosen);
            replaced += other != rank;
            chosen[rank] = choices[other];
            kept[rank] = scores[other];
            present[place_of(chosen[rank])] = 1;
        }
        weigh(rule, kept);
    }
    return replaced;
}

} // namespace moira
