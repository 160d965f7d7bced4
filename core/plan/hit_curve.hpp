#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <functional>
#include <vector>

namespace moira {

/// Share of expert requests that find their expert where `slots` of `slots_all` experts fit. Errors: its own.
using hit_source = std::function<result<double>(std::uint64_t slots, std::uint64_t slots_all)>;

/// Share of expert requests that find their expert in memory, by the share of all experts that fits there.
struct hit_curve {
    /// At evenly spaced shares from 0 to 1: hits[i] at i / (hits.size() - 1). At least two values.
    std::vector<double> hits;

    /// Between the points a straight line; `resident_share` below 0 or above 1 counts as the end.
    double at(double resident_share) const noexcept;

    /// As a hit_source; never an error.
    result<double> operator()(std::uint64_t slots, std::uint64_t slots_all) const {
        return at(slots_all == 0 ? 1.0 : static_cast<double>(slots) / static_cast<double>(slots_all));
    }
};

/// Every expert is equally likely, whatever was chosen before: the worst case for any policy that does not know the
/// future, and then the share that is resident is the share that hits.
const hit_curve& uniform_hits();

/// As skewed as real text on gpt-oss-20b: 62,734 tokens of its recorded routing (24 layers, 32 experts, top 4, one
/// sequence at a time) under this program's usual policy, foresight, the first half not counted. Other models are
/// skewed otherwise: the end of a range, not a promise.
const hit_curve& skewed_hits();

} // namespace moira
