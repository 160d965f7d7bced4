#include "core/execute/expert_assignment.hpp"

#include "core/route/gate_mass.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace moira {

std::size_t expert_assignment::find(std::int32_t expert) const noexcept {
    const auto place = std::lower_bound(experts.begin(), experts.end(), expert);
    return place == experts.end() || *place != expert ? experts.size()
                                                      : static_cast<std::size_t>(place - experts.begin());
}

result<void> assign_pairs(std::span<const std::int32_t> ids, std::int32_t top_k, std::int32_t experts, bool pruned,
                          expert_assignment& made) {
    if (top_k < 1 || experts < 1 || ids.size() % static_cast<std::size_t>(top_k) != 0)
        return fail(errc::internal,
                    std::to_string(ids.size()) + " expert ids are not whole rows of " + std::to_string(top_k));
    // First the pairs of each expert are counted, then it is known where they begin; an expert's place moves on with
    // every pair that is written.
    auto& places = made.pair_begin;
    places.assign(static_cast<std::size_t>(experts) + 1, 0);
    std::uint32_t kept = 0;
    for (const auto id : ids) {
        if (pruned && id == no_expert)
            continue;
        if (id < 0 || id >= experts)
            return fail(errc::device_error,
                        "the router chose expert " + std::to_string(id) + " of " + std::to_string(experts));
        ++places[static_cast<std::size_t>(id)];
        ++kept;
    }
    made.experts.clear();
    std::uint32_t begin = 0;
    for (std::int32_t expert = 0; expert < experts; ++expert) {
        auto& place = places[static_cast<std::size_t>(expert)];
        if (place > 0)
            made.experts.push_back(expert);
        begin += std::exchange(place, begin);
    }
    made.pairs.resize(kept);
    for (std::size_t pair = 0; pair < ids.size(); ++pair)
        if (ids[pair] >= 0)
            made.pairs[places[static_cast<std::size_t>(ids[pair])]++] = {
                static_cast<std::int32_t>(pair / static_cast<std::size_t>(top_k)), static_cast<std::int32_t>(pair)};
    // Now each place is where the expert's pairs end, and the i-th expert's number is at least i.
    begin = 0;
    for (std::size_t index = 0; index < made.experts.size(); ++index) {
        const auto end = places[static_cast<std::size_t>(made.experts[index])];
        places[index] = std::exchange(begin, end);
    }
    places[made.experts.size()] = begin;
    places.resize(made.experts.size() + 1);
    return {};
}

void experts_of_rows(const expert_assignment& assignment, std::span<const std::int32_t> rows,
                     std::vector<std::int32_t>& experts) {
    experts.clear();
    if (rows.empty())
        return;
    const auto listed = [rows](const moira_expert_pair& pair) {
        return std::binary_search(rows.begin(), rows.end(), pair.row);
    };
    for (std::size_t index = 0; index < assignment.experts.size(); ++index) {
        const auto pairs = assignment.pairs_of(index);
        if (std::all_of(pairs.begin(), pairs.end(), listed))
            experts.push_back(assignment.experts[index]);
    }
}

void rows_of_experts(const expert_assignment& assignment, std::span<const std::int32_t> experts, std::int32_t first_row,
                     std::vector<std::int32_t>& rows) {
    for (const auto expert : experts)
        if (const auto index = assignment.find(expert); index < assignment.experts.size())
            for (const auto& pair : assignment.pairs_of(index))
                rows.push_back(first_row + pair.row);
}

} // namespace moira
