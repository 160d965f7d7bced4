#include "core/plan/model_plan.hpp"

#include <algorithm>

namespace moira {

namespace {

constexpr std::int32_t estimate_tokens_max = 1024;

/// Whatever is shown as faster must be worth a purchase.
constexpr double gain_min = 1.1;

/// All experts in memory; where that is more than as much memory again, twice the memory.
result<std::optional<more_memory>> plan_more(const model_demands& demands, const plan_wish& wish,
                                             const budget_plan& now, const machine_speed& machine,
                                             const hit_source& hits, double tok_s) {
    if (now.slots >= now.slots_all)
        return std::optional<more_memory>();
    // An asked-for budget is what keeps experts out, not the memory.
    plan_wish open = wish;
    open.budget_bytes.reset();
    const auto present = now.memory_bytes;
    const auto target =
        wish.budget_bytes ? std::max(present, now.memory_bytes_all) : std::min(now.memory_bytes_all, 2 * present);
    const auto then = plan_budget(demands, open, target);
    const auto extra = wish.budget_bytes ? then.budget_bytes - std::min(then.budget_bytes, now.budget_bytes)
                                         : target - std::min(target, present);
    const auto rate = hits(then.slots, then.slots_all);
    if (!rate)
        return tl::unexpected(rate.error());
    const auto speed = estimate_speed(demands, machine, *rate, tokens_of_estimate(wish));
    if (!speed || extra == 0 || speed->tok_s < gain_min * tok_s)
        return std::optional<more_memory>();
    return std::optional(more_memory{extra, speed->tok_s});
}

} // namespace

std::int32_t tokens_of_estimate(const plan_wish& wish) noexcept {
    return std::min(wish.context, estimate_tokens_max);
}

result<model_plan> make_plan(const model_demands& demands, const plan_wish& wish, std::uint64_t memory_bytes,
                             const machine_speed& machine, const hit_source& low, const hit_source& high) {
    model_plan plan;
    plan.budget = plan_budget(demands, wish, memory_bytes);
    if (!plan.budget.placed)
        return plan;
    const auto rate = low(plan.budget.slots, plan.budget.slots_all);
    const auto rate_high = high(plan.budget.slots, plan.budget.slots_all);
    if (!rate || !rate_high)
        return tl::unexpected(rate ? rate_high.error() : rate.error());
    plan.expected_hit_rate = *rate;
    plan.hit_rate_high = *rate_high;
    const auto tokens = tokens_of_estimate(wish);
    plan.speed = estimate_speed(demands, machine, plan.expected_hit_rate, tokens);
    plan.speed_high = estimate_speed(demands, machine, plan.hit_rate_high, tokens);
    if (!plan.speed)
        return plan;
    const auto more = plan_more(demands, wish, plan.budget, machine, low, plan.speed->tok_s);
    if (!more)
        return tl::unexpected(more.error());
    plan.more = *more;
    return plan;
}

} // namespace moira
