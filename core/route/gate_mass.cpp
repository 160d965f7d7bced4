#include "core/route/gate_mass.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace moira {

namespace {

/// Prunes one row; `order` is scratch for its ranks. Sums are in double and in one order, so that a share of 1 is
/// reached by the last weight that counts.
std::size_t keep_of_row(const gate_mass_rule& rule, std::span<std::int32_t> ids, std::span<float> weights,
                        std::vector<std::size_t>& order) {
    const auto usable = [](float weight) { return std::isfinite(weight) && weight >= 0.0F; };
    if (!std::all_of(weights.begin(), weights.end(), usable))
        return 0;
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [weights](std::size_t a, std::size_t b) {
        return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
    });
    double all = 0;
    for (const auto rank : order)
        all += static_cast<double>(weights[rank]);
    double kept = static_cast<double>(weights[order.front()]);
    std::size_t keep = 1;
    while (keep < order.size() && kept < rule.mass * all)
        kept += static_cast<double>(weights[order[keep++]]);
    if (keep == order.size())
        return 0;
    for (std::size_t place = keep; place < order.size(); ++place) {
        ids[order[place]] = no_expert;
        weights[order[place]] = 0.0F;
    }
    if (rule.renormalize && kept > 0)
        for (std::size_t place = 0; place < keep; ++place)
            weights[order[place]] = static_cast<float>(static_cast<double>(weights[order[place]]) * (all / kept));
    return order.size() - keep;
}

} // namespace

std::size_t keep_gate_mass(const gate_mass_rule& rule, std::span<std::int32_t> ids, std::span<float> weights) {
    if (rule.top_k == 0)
        return 0;
    std::vector<std::size_t> order(rule.top_k);
    std::size_t left_out = 0;
    const auto rows = std::min(ids.size(), weights.size()) / rule.top_k;
    for (std::size_t row = 0; row < rows; ++row)
        left_out += keep_of_row(rule, ids.subspan(row * rule.top_k, rule.top_k),
                                weights.subspan(row * rule.top_k, rule.top_k), order);
    return left_out;
}

} // namespace moira
