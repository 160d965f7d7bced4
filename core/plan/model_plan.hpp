#pragma once

#include "core/plan/budget_plan.hpp"
#include "core/plan/hit_curve.hpp"
#include "core/plan/speed_estimate.hpp"

#include <optional>

namespace moira {

/// More memory, and the speed with it.
struct more_memory {
    std::uint64_t bytes = 0; ///< beyond what there is
    double tok_s = 0;
};

/// Budget and speed of one model on one machine.
struct model_plan {
    budget_plan budget;
    double expected_hit_rate = 0;             ///< the lower end
    double hit_rate_high = 0;                 ///< the same where a recording tells
    std::optional<speed_estimate> speed;      ///< at expected_hit_rate; none: the disk is unknown, or it does not fit
    std::optional<speed_estimate> speed_high; ///< at hit_rate_high
    std::optional<more_memory> more;          ///< none: everything is in memory, or nothing would change
};

/// `low` and `high`: what is known of the routing. Expected is the lower end. Errors: those of low and high.
result<model_plan> make_plan(const model_demands& demands, const plan_wish& wish, std::uint64_t memory_bytes,
                             const machine_speed& machine, const hit_source& low, const hit_source& high);

/// Tokens in the context that speeds are stated for: a conversation of some pages, less where the context is shorter.
std::int32_t tokens_of_estimate(const plan_wish& wish) noexcept;

} // namespace moira
