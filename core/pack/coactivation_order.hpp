#pragma once

#include "core/base/error.hpp"
#include "core/model/checkpoint.hpp"
#include "core/pack/pack_plan.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// How often two experts of one layer were chosen by the same token: symmetric, [experts, experts].
class coactivation_counts {
public:
    explicit coactivation_counts(std::uint32_t experts) : experts_(experts), counts_(std::size_t{experts} * experts) {}

    /// Ids of one token, each below `experts`.
    void add(std::span<const std::uint16_t> ids) noexcept;

    std::uint32_t experts() const noexcept { return experts_; }
    std::uint64_t together(std::uint32_t a, std::uint32_t b) const noexcept {
        return counts_[std::size_t{a} * experts_ + b];
    }
    std::uint64_t chosen(std::uint32_t expert) const noexcept { return together(expert, expert); }

private:
    std::uint32_t experts_;
    std::vector<std::uint32_t> counts_; // the diagonal counts choices
};

/// Puts experts that are chosen together side by side: pairs of neighbours are taken by falling count, each joining the
/// ends of two chains (the greedy matching of travelling-salesman tours); what is left over follows by how often it is
/// chosen. Ties go to lower numbers, so that a recording gives one order.
std::vector<std::uint32_t> coactivation_order(const coactivation_counts& counts);

/// The order of every layer that the recording covers. Errors: invalid_argument (a recording of a model of another
/// shape).
result<expert_orders> coactivation_orders(const route_trace& trace, const checkpoint& model);

/// Reads that bring one token's experts when neighbours come in one read. `place_of`: place in the file by number.
std::uint32_t reads_of(std::span<const std::uint16_t> ids, std::span<const std::uint32_t> place_of) noexcept;

} // namespace moira
