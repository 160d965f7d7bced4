#include "tools/moira/plan_verification.hpp"

#include "tools/moira/bench_numbers.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/memory_probe.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <optional>

namespace moira {

namespace {

/// Of each of the two generations: long enough for a steady mean, short enough for a slow machine.
constexpr double seconds_wanted = 10;
constexpr std::int32_t tokens_min = 8, tokens_max = 256, prompt_tokens = 16;

command_context settings_of(const plan_answer& answer, const command_context& context) {
    command_context changed = context;
    auto& all = changed.settings.values;
    all.context.max_tokens = answer.wish.context;
    all.experts.ram_budget = memory_budget::of_bytes(answer.plan.budget.slots * answer.demands.slot_bytes);
    if (all.experts.io == "auto" && answer.plan.budget.slots < answer.plan.budget.slots_all)
        all.experts.io = "direct";
    all.speculation.mode = "off"; // a token is a step then, as in the estimate
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

double seconds_per(double seconds, std::uint64_t count) {
    return count > 0 ? seconds / static_cast<double>(count) : 0;
}

/// What the runtime counted of generated tokens, per token: the prompt's steps lie before.
void count_between(plan_verification& verified, const runtime_statistics& before, const runtime_statistics& after) {
    const auto tokens = after.batch.completion_tokens - before.batch.completion_tokens;
    const auto &a = after.experts, &b = before.experts;
    verified.compute_s = seconds_per(a.compute_s - b.compute_s, tokens);
    verified.stall_s = seconds_per(a.step_stall_s - b.step_stall_s, tokens);
    const auto loads = a.demand_loads - b.demand_loads, asked = a.hits - b.hits + loads;
    verified.hit_rate = asked > 0 ? 1 - static_cast<double>(loads) / static_cast<double>(asked) : 1.0;
    verified.slots = a.slots;
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
    if (verified.disk_gb_s > 0)
        beside.disk_gb_s = verified.disk_gb_s;
    verified.estimate = estimate_speed(answer.demands, beside, verified.hit_rate,
                                       verified.context > 0 ? verified.context : tokens_of_estimate(answer.wish));
    verified.ratio_of_time_model = verified.estimate ? verified.decode_tok_s / verified.estimate->tok_s : 0;
    const double inside_s = verified.compute_s + verified.stall_s;
    verified.between_s = inside_s > 0 ? std::max(0.0, 1 / verified.decode_tok_s - inside_s) : 0;
    verified.holds = std::abs(std::log(verified.ratio)) <= std::log(verified_factor_max);
}

namespace {

/// Fills what is measured of generated tokens.
result<void> generate_once(local_runtime& runtime, generation_input input, const std::function<bool()>& interrupted,
                           plan_verification& verified) {
    auto started = std::make_shared<std::atomic<bool>>(false);
    std::optional<runtime_statistics> before = runtime.statistics();
    bool prompt_over = false;
    const auto watch = [&] {
        if (*started && !prompt_over) {
            prompt_over = true;
            if (auto now = runtime.statistics())
                before = std::move(now);
        }
        return interrupted && interrupted();
    };
    const auto outcome = runtime.run(
        std::move(input),
        [started](const output_event& event) {
            if (!event.tokens.empty())
                *started = true;
        },
        watch);
    if (outcome.failure)
        return tl::unexpected(*outcome.failure);
    if (outcome.reason == finish_reason::cancelled)
        return fail(errc::cancelled, "interrupted");
    const auto after = runtime.statistics();
    if (!before || !after)
        return fail(errc::internal, "the runtime ended before it was asked what it had measured");
    count_between(verified, *before, *after);
    verified.tokens = outcome.completion_tokens;
    verified.decode_tok_s = outcome.decode_s > 0 ? (outcome.completion_tokens - 1) / outcome.decode_s : 0;
    return {};
}

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
    plan_verification verified;
    for (std::uint64_t run = 0; run < 2; ++run)
        if (auto done = generate_once(**runtime, input_of(all_fit ? 0 : run, prompt, tokens, vocabulary), interrupted,
                                      verified);
            !done)
            return tl::unexpected(done.error());
    verified.context = prompt + verified.tokens / 2;
    return verified;
}

} // namespace

result<plan_verification> verify_plan(const plan_answer& answer, const std::string& wanted,
                                      const command_context& context, const verification_probes& probes,
                                      const std::function<bool()>& interrupted) {
    const auto resident = answer.plan.budget.dense_bytes + answer.plan.budget.slots * answer.demands.slot_bytes;
    const auto before = probe_memory(probes.pool, resident);
    if (!before)
        return tl::unexpected(before.error());
    auto verified = generate(answer, wanted, context, interrupted);
    if (!verified)
        return verified;
    const auto after = probe_memory(probes.pool, resident);
    if (!after)
        return tl::unexpected(after.error());
    verified->memory_gb_s = (*before + *after) / 2;
    if (probes.disk) {
        const auto disk = probes.disk();
        if (!disk)
            return tl::unexpected(disk.error());
        verified->disk_gb_s = (answer.machine.speed.disk_gb_s.value_or(*disk) + *disk) / 2;
    }
    judge(*verified, answer);
    return verified;
}

} // namespace moira
