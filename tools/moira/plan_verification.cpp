#include "tools/moira/plan_verification.hpp"

#include "tools/moira/bench_numbers.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/machine_probe.hpp"

#include <algorithm>
#include <cmath>

namespace moira {

namespace {

/// Of each of the two generations: long enough for a steady mean, short enough for a slow machine.
constexpr double seconds_wanted = 10;
constexpr std::int32_t tokens_min = 8, tokens_max = 128, prompt_tokens = 16;

command_context settings_of(const plan_answer& answer, const command_context& context) {
    command_context changed = context;
    auto& all = changed.settings.values;
    all.context.max_tokens = answer.wish.context;
    all.experts.ram_budget = memory_budget::of_bytes(answer.plan.budget.slots * answer.demands.slot_bytes);
    if (all.experts.io == "auto" && answer.plan.budget.slots < answer.plan.budget.slots_all)
        all.experts.io = "direct";
    return changed;
}

generation_input input_of(std::uint64_t index, std::int32_t prompt, std::int32_t tokens, std::int32_t vocabulary) {
    generation_input input;
    input.ids = bench_prompt(index, prompt, vocabulary);
    input.max_tokens = tokens;
    input.temperature = 0.0;
    input.ignore_eos = true;
    return input;
}

double rate_between(const expert_store_statistics& before, const expert_store_statistics& after) {
    const auto hits = static_cast<double>(after.hits - before.hits);
    const auto loads = static_cast<double>(after.demand_loads - before.demand_loads);
    return hits + loads > 0 ? hits / (hits + loads) : 1.0;
}

} // namespace

void judge(plan_verification& verified, const plan_answer& answer) {
    if (!answer.plan.speed || verified.decode_tok_s <= 0)
        return;
    const double low = answer.plan.speed->tok_s;
    const double high = answer.plan.speed_high ? std::max(low, answer.plan.speed_high->tok_s) : low;
    verified.ratio = verified.decode_tok_s / std::clamp(verified.decode_tok_s, low, high);
    machine_speed beside = answer.machine.speed;
    if (verified.memory_gb_s > 0)
        beside.memory_gb_s = verified.memory_gb_s;
    const auto known = estimate_speed(answer.demands, beside, verified.hit_rate,
                                      verified.context > 0 ? verified.context : tokens_of_estimate(answer.wish));
    verified.ratio_of_time_model = known ? verified.decode_tok_s / known->tok_s : 0;
    verified.holds = std::abs(std::log(verified.ratio)) <= std::log(verified_factor_max);
}

namespace {

/// Fills all but memory_gb_s and what judge() says.
result<plan_verification> generate(const plan_answer& answer, const std::string& wanted, const command_context& context,
                                   const std::function<bool()>& interrupted) {
    const auto prompt = std::min(prompt_tokens, std::max(1, answer.wish.context / 4));
    const auto room = answer.wish.context - prompt - 1;
    const auto tokens = std::min(
        room, std::clamp(static_cast<std::int32_t>(answer.plan.speed->tok_s * seconds_wanted), tokens_min, tokens_max));
    if (tokens < 2)
        return fail(errc::invalid_argument,
                    "a context of " + std::to_string(answer.wish.context) + " tokens is too short to measure in");
    auto runtime = load_runtime(wanted, settings_of(answer, context));
    if (!runtime)
        return tl::unexpected(runtime.error());
    const auto vocabulary = (*runtime)->identity().vocabulary;
    const bool all_fit = answer.plan.budget.slots >= answer.plan.budget.slots_all;
    expert_store_statistics before;
    plan_verification verified;
    for (std::uint64_t run = 0; run < 2; ++run) {
        if (const auto now = (*runtime)->statistics())
            before = now->experts;
        const auto outcome = (*runtime)->run(input_of(all_fit ? 0 : run, prompt, tokens, vocabulary), {}, interrupted);
        if (outcome.failure)
            return tl::unexpected(*outcome.failure);
        if (outcome.reason == finish_reason::cancelled)
            return fail(errc::cancelled, "interrupted");
        verified.tokens = outcome.completion_tokens;
        verified.context = prompt + outcome.completion_tokens / 2;
        verified.decode_tok_s = outcome.decode_s > 0 ? (outcome.completion_tokens - 1) / outcome.decode_s : 0;
    }
    if (const auto now = (*runtime)->statistics()) {
        verified.hit_rate = rate_between(before, now->experts);
        verified.slots = now->experts.slots;
    }
    return verified;
}

} // namespace

result<plan_verification> verify_plan(const plan_answer& answer, const std::string& wanted,
                                      const command_context& context, compute_pool& pool,
                                      const std::function<bool()>& interrupted) {
    const auto resident = answer.plan.budget.dense_bytes + answer.plan.budget.slots * answer.demands.slot_bytes;
    const auto before = probe_memory(pool, resident);
    if (!before)
        return tl::unexpected(before.error());
    auto verified = generate(answer, wanted, context, interrupted);
    if (!verified)
        return verified;
    const auto after = probe_memory(pool, resident);
    if (!after)
        return tl::unexpected(after.error());
    verified->memory_gb_s = (*before + *after) / 2;
    judge(*verified, answer);
    return verified;
}

} // namespace moira
