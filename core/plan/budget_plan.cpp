#include "core/plan/budget_plan.hpp"

#include "core/base/checked.hpp"
#include "core/plan/plan_sentences.hpp"

#include <algorithm>

namespace moira {

namespace {

/// A process that serves the bundled model holds about 60 MiB beside its weights, experts, KV pages and arena (VmRSS
/// less those, `moira serve` idle).
constexpr std::uint64_t process_bytes = std::uint64_t{96} << 20;
/// Tables, page tables and the allocator grow with what is loaded.
constexpr std::uint64_t reserve_divisor = 64;

/// As the engine gives pages: the budget's, at least one context, at most what all sequences could fill.
std::uint64_t kv_bytes_of(const model_demands& demands, const plan_wish& wish) {
    const auto page_tokens = static_cast<std::uint64_t>(wish.page_tokens);
    const auto page_bytes = page_tokens * demands.kv_token_bytes();
    const auto context_pages = round_up(static_cast<std::uint64_t>(wish.context), page_tokens) / page_tokens;
    const auto pages = std::clamp(wish.kv_budget_bytes / std::max<std::uint64_t>(1, page_bytes), context_pages,
                                  context_pages * static_cast<std::uint64_t>(wish.sequences));
    return pages * page_bytes;
}

/// The large buffers of the step arena: rows of hidden states, heads, experts' outputs and the logits, in f32.
std::uint64_t arena_bytes_of(const model_shape& shape, const plan_wish& wish) {
    const auto wide = [](std::int32_t count) { return static_cast<std::uint64_t>(count); };
    const auto hidden = wide(shape.hidden);
    const auto row = 3 * hidden + wide(shape.query_width()) + wide(shape.attention_width()) + wide(shape.kv_width()) +
                     wide(shape.moe.experts) + wide(shape.moe.top_k) * hidden;
    const auto logits = wide(wish.sequences) * (hidden + 2 * wide(shape.vocabulary));
    return sizeof(float) * (wide(wish.step_rows) * row + logits);
}

std::uint64_t beside_experts(const budget_plan& plan) {
    return plan.dense_bytes + plan.kv_bytes + plan.arena_bytes + plan.loader_bytes + plan.reserve_bytes;
}

/// How long a context would fit if everything else stayed as it is; 0: none.
std::int64_t context_that_fits(const model_demands& demands, const budget_plan& plan, std::uint64_t experts_bytes) {
    const auto others = beside_experts(plan) - plan.kv_bytes + experts_bytes;
    if (others >= plan.memory_bytes || demands.kv_token_bytes() == 0)
        return 0;
    constexpr std::uint64_t step = 1024; // a round number for people
    return static_cast<std::int64_t>((plan.memory_bytes - others) / demands.kv_token_bytes() / step * step);
}

void explain_refusal(const model_demands& demands, const plan_wish& wish, budget_plan& plan, std::uint64_t needed) {
    plan.reasons.push_back("needed: " + bytes_text(plan.dense_bytes) + " outside experts, " +
                           bytes_text(plan.kv_bytes) + " for a context of " + std::to_string(wish.context) +
                           " tokens, " + bytes_text(plan.arena_bytes + plan.loader_bytes + plan.reserve_bytes) +
                           " for steps, loading and the program, " + bytes_text(needed) + " for experts; there are " +
                           bytes_text(plan.memory_bytes));
    const auto wanted = beside_experts(plan) + needed;
    plan.reasons.push_back(bytes_text(wanted - plan.memory_bytes) + " more memory would make it run");
    const auto context = context_that_fits(demands, plan, needed);
    if (context > 0 && context < wish.context)
        plan.reasons.push_back("so would --context " + std::to_string(context));
    if (wish.budget_bytes && *wish.budget_bytes > plan.slots_min * demands.slot_bytes)
        plan.reasons.push_back("so might a smaller experts.ram_budget");
}

} // namespace

double budget_plan::resident_share() const noexcept {
    return slots_all == 0 ? 1.0 : static_cast<double>(slots) / static_cast<double>(slots_all);
}

budget_plan plan_budget(const model_demands& demands, const plan_wish& wish, std::uint64_t memory_bytes) {
    budget_plan plan;
    plan.memory_bytes = memory_bytes;
    plan.dense_bytes = demands.dense_bytes;
    plan.kv_bytes = kv_bytes_of(demands, wish);
    plan.arena_bytes = arena_bytes_of(demands.shape, wish);
    plan.slots_all = demands.experts_all();
    plan.loader_bytes = plan.slots_all == 0 ? 0 : (wish.loader_threads + std::uint64_t{1}) * demands.disk_bytes;
    plan.slots_min = static_cast<std::uint64_t>(plan.slots_all == 0 ? 0 : demands.shape.moe.top_k);
    plan.slots_floor = demands.experts_per_token();
    plan.reserve_bytes = process_bytes + (plan.dense_bytes + plan.kv_bytes) / reserve_divisor;
    const auto others = beside_experts(plan);
    const auto all_bytes = plan.slots_all * demands.slot_bytes;
    plan.memory_bytes_min = others + plan.slots_min * demands.slot_bytes;
    plan.memory_bytes_all = others + all_bytes;
    if (!demands.refusal.empty())
        plan.reasons.push_back("this version does not run the model: " + demands.refusal);
    const auto least = wish.budget_bytes ? std::max(*wish.budget_bytes, plan.slots_min * demands.slot_bytes)
                                         : plan.slots_min * demands.slot_bytes;
    if (others + least > memory_bytes) {
        explain_refusal(demands, wish, plan, least);
        return plan;
    }
    plan.budget_bytes = wish.budget_bytes ? *wish.budget_bytes : std::min(memory_bytes - others, all_bytes);
    plan.slots = demands.slot_bytes == 0 ? 0 : std::min(plan.budget_bytes / demands.slot_bytes, plan.slots_all);
    if (plan.slots < plan.slots_min) {
        plan.reasons.push_back("a budget of " + bytes_text(plan.budget_bytes) + " holds " + std::to_string(plan.slots) +
                               " experts, but one layer of one token needs " + std::to_string(plan.slots_min) +
                               ": give experts.ram_budget at least " +
                               std::to_string(plan.slots_min * demands.slot_bytes) + " bytes");
        return plan;
    }
    if (plan.slots < std::min(plan.slots_floor, plan.slots_all))
        plan.reasons.push_back("fewer slots than one token uses over all layers (" + std::to_string(plan.slots_floor) +
                               "): most experts are read anew for every token");
    plan.placed = true;
    plan.fits = demands.refusal.empty();
    return plan;
}

} // namespace moira
