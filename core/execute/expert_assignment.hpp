#pragma once

#include "core/base/error.hpp"
#include "plugins/moira_plugin.h"

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// The pairs of a step sorted by expert: what the expert op reads, and the union of experts that the step needs.
struct expert_assignment {
    std::vector<std::int32_t> experts;     ///< distinct, ascending
    std::vector<std::uint32_t> pair_begin; ///< [experts + 1]
    std::vector<moira_expert_pair> pairs;  ///< of one expert in ascending rows; [rows * top_k] less what was left out

    /// Where `expert` stands in `experts`; their number: it is none of them.
    std::size_t find(std::int32_t expert) const noexcept;

    /// Pairs of the expert at `index`.
    std::span<const moira_expert_pair> pairs_of(std::size_t index) const noexcept {
        return std::span(pairs).subspan(pair_begin[index], pair_begin[index + 1] - pair_begin[index]);
    }
};

/// Fills `made`, whose memory is used again. `ids`: [rows, top_k], checked against `experts` (a kernel's output is not
/// trusted to index host memory). `pruned`: no_expert stands for ranks that are left out, which get no pair. Errors:
/// device_error for an id out of range.
result<void> assign_pairs(std::span<const std::int32_t> ids, std::int32_t top_k, std::int32_t experts, bool pruned,
                          expert_assignment& made);

/// Experts that nothing but these rows (ascending) asks for, ascending; replaces what was in `experts`.
void experts_of_rows(const expert_assignment& assignment, std::span<const std::int32_t> rows,
                     std::vector<std::int32_t>& experts);

/// Appends the rows that want one of `experts`, `first_row` added to each.
void rows_of_experts(const expert_assignment& assignment, std::span<const std::int32_t> experts, std::int32_t first_row,
                     std::vector<std::int32_t>& rows);

} // namespace moira
