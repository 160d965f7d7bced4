#include "core/execute/engine_parts.hpp"
#include "core/execute/route_override.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>

// Running steps.

namespace moira {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

/// Rows of the module whose hidden states arena.mtp_hidden holds, or the last step's rows `kept`, which the arena still
/// holds then.
result<void> engine::impl::run_mtp_pass(const mtp_pass& pass, const logits_function& on_logits, double& stall_s) {
    const step_context step{model.shape(), weights, arena, *queue, nullptr, {}, {}, pruning.get()};
    const auto& module = *weights.mtp;
    auto* kv_pool = cache.layers[static_cast<std::size_t>(module.block.index)].as<void>();
    auto done = keep_final_hidden(step, pass.kept);
    if (done)
        done = arena.upload(pass.rows, *queue);
    if (done)
        done = run_mtp(step, module, kv_pool, *store, stall_s);
    if (done)
        done = project_logits(step, module.head_norm, arena.x.as<float>(), pass.wanted, on_logits);
    if (done)
        done = queue->synchronize();
    // Leaves no error word behind for the next step; what failed has been reported.
    if (!done)
        static_cast<void>(queue->synchronize());
    arena.visit->reset();
    return done;
}

/// The pins of the last layer's experts end, behind its kernels.
result<void> engine::impl::end_reading() {
    if (!arena.visit->has_value())
        return {};
    auto idle = queue->synchronize();
    arena.visit->reset();
    return idle;
}

/// The module's states behind its last norm, which project_logits left in arena.head_in, become the next pass's hidden
/// states: those at `stayed`, in order.
result<void> engine::impl::carry_states(std::span<const std::size_t> stayed) {
    const auto hidden = static_cast<std::size_t>(model.shape().hidden);
    std::vector<float> states((stayed.back() + 1) * hidden), carried;
    auto done = queue->download(states.data(), arena.head_in.as<void>(), states.size() * sizeof(float));
    if (done)
        done = queue->synchronize();
    if (!done)
        return done;
    for (const auto place : stayed)
        carried.insert(carried.end(), states.begin() + static_cast<std::ptrdiff_t>(place * hidden),
                       states.begin() + static_cast<std::ptrdiff_t>((place + 1) * hidden));
    done = queue->upload(arena.mtp_hidden.as<void>(), carried.data(), carried.size() * sizeof(float));
    const auto idle = queue->synchronize(); // the queued copy reads `carried`
    return done ? idle : done;
}

/// Feeds the module what the step computed, and lets it draft. A sequence's drafts may be cut by slots; which never
/// changes a text.
result<void> engine::impl::offer_drafts(const step_plan& plan, step_result& outcome) {
    std::vector<drafting_sequence> drafting;
    std::vector<std::size_t> stayed;
    auto pass = first_mtp_pass(plan, outcome.samples, drafting);
    const auto draft = [&](std::size_t index, std::span<const float> logits) { draft_token(drafting[index], logits); };
    std::chrono::steady_clock::time_point begin{};
    for (int more = 0;; ++more) {
        if (more == 1)
            begin = std::chrono::steady_clock::now();
        if (auto done = run_mtp_pass(pass, draft, outcome.stall_s); !done)
            return done;
        if (more > 0)
            outcome.draft_pass_s = seconds_since(begin) / more;
        // Sequences that leave keep what they have.
        std::vector<offered_draft> offers;
        for (const auto& each : drafting)
            offers.push_back(each.offer);
        pass = next_mtp_pass(plan, limits, drafting, stayed);
        for (std::size_t place = 0; place < offers.size(); ++place)
            if (std::find(stayed.begin(), stayed.end(), place) == stayed.end())
                outcome.offered.push_back(std::move(offers[place]));
        // A pass keeps the states of one block of logits.
        if (drafting.empty() || offers.size() > static_cast<std::size_t>(limits.logits_rows_max))
            return {};
        if (auto done = carry_states(stayed); !done)
            return done;
    }
}

/// Ascending, as samples are.
static std::vector<std::int32_t> drafted_rows(const step_plan& plan) {
    std::vector<std::int32_t> rows;
    for (const auto& sample : plan.samples)
        if (sample.follows_draft)
            rows.push_back(sample.row);
    return rows;
}

/// Each once.
static std::vector<std::int32_t> ascending(std::vector<std::int32_t> rows) {
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    return rows;
}

/// Ascending: rows inside a prompt, whose logits nobody wants.
static std::vector<std::int32_t> prompt_rows(const step_plan& plan) {
    std::vector<std::int32_t> rows;
    auto sample = plan.samples.begin();
    for (std::int32_t row = 0; row < plan.rows(); ++row) {
        while (sample != plan.samples.end() && sample->row < row)
            ++sample;
        if (sample == plan.samples.end() || sample->row != row)
            rows.push_back(row);
    }
    return rows;
}

result<void> engine::impl::run_rows(const step_plan& plan, const logits_function& on_logits, forward_observer* observer,
                                    double& stall_s) {
    const auto drafted = drafted_rows(plan);
    const auto prompts = prompt_rows(plan);
    arena.failed_rows.clear();
    const step_context step{model.shape(), weights, arena, *queue, probe.get(), drafted, prompts, pruning.get(), route_choice};
    const bool may_hint = plan.rows() <= limits.rows_max && !(route_choice && route_choice->hints());
    if (probe)
        probe->begin_step(plan, may_hint ? store->hint_visits_wanted() : 0);
    if (plan.rows() > limits.rows_max) {
        if (plan.rows() > step_rows || observer || route_choice)
            return fail(errc::internal, "a step of " + std::to_string(plan.rows()) + " rows");
        return forward_in_blocks(step, plan, limits.rows_max, cache, *store, on_logits, stall_s);
    }
    if (auto done = arena.upload(plan, *queue); !done)
        return done;
    if (probe)
        probe->give_first_hints(*store);
    std::vector<std::int32_t> rows;
    rows.reserve(plan.samples.size());
    for (const auto& sample : plan.samples)
        rows.push_back(sample.row);
    if (resident)
        if (auto held = resident->hold(step, plan, *store, observer))
            return resident->forward(step, cache, *store, *held, rows, on_logits);
    return forward(step, cache, *store, rows, on_logits, observer, stall_s);
}

engine::engine(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
engine::~engine() = default;

step_result engine::run_step(const step_plan& plan, forward_observer* observer) {
    const auto begin = std::chrono::steady_clock::now();
    step_result outcome;
    outcome.number = plan.number;
    outcome.samples.reserve(plan.samples.size());
    const auto on_logits = [&](std::size_t index, std::span<const float> logits) {
        const auto& wanted = plan.samples[index];
        // The rows of a draft stand one after another; the hash of a rejected one goes nowhere.
        const auto& before = wanted.follows_draft && index > 0 ? outcome.samples.back().hash : wanted.hash;
        sampled_token sampled{wanted.request, sample_token(logits, wanted.sampling, wanted.position, wanted.history), before};
        sampled.hash.add(logits);
        outcome.samples.push_back(sampled);
        if (observer)
            observer->logits(wanted.row, logits);
    };
    impl_->store->begin_step();
    auto done = impl_->run_rows(plan, on_logits, observer, outcome.stall_s);
    if (const auto idle = impl_->end_reading(); done && !idle)
        done = idle;
    if (!done) {
        outcome.failure = done.error();
        outcome.failed_rows = ascending(impl_->arena.failed_rows);
        outcome.samples.clear();
        // Leaves no error word behind for the next step; what failed has been reported.
        static_cast<void>(impl_->queue->synchronize());
    }
    // Drafts are a matter of speed: what prevents them ends no request.
    if (done && impl_->weights.mtp && !plan.draft_requests.empty() && !impl_->offer_drafts(plan, outcome)) {
        outcome.offered.clear();
        outcome.drafting_failed = true;
    }
    outcome.compute_s = seconds_since(begin);
    impl_->store->end_step(outcome.stall_s);
    return outcome;
}

result<void> engine::run_mtp_rows(const step_plan& plan, std::span<const token_id> next_tokens,
                                  forward_observer& observer) {
    const auto count = next_tokens.size();
    if (!impl_->weights.mtp)
        return fail(errc::unsupported, "the multi-token-prediction layer was not loaded");
    if (count > plan.tokens.size() || plan.rows() != impl_->arena.rows)
        return fail(errc::invalid_argument, std::to_string(count) + " next tokens for a step of " +
                                                std::to_string(plan.rows()) + " rows, not the last one");
    if (count == 0)
        return {};
    const auto leading = [count](const auto& all) { return std::vector(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)); };
    mtp_pass pass;
    pass.kept = {{0, static_cast<std::int32_t>(count)}};
    pass.rows.tokens.assign(next_tokens.begin(), next_tokens.end());
    pass.rows.positions = leading(plan.positions);
    pass.rows.slots = leading(plan.slots);
    pass.rows.attention_rows = leading(plan.attention_rows);
    pass.rows.page_table = plan.page_table;
    pass.wanted.resize(count);
    std::iota(pass.wanted.begin(), pass.wanted.end(), 0);
    double stall_s = 0;
    return impl_->run_mtp_pass(
        pass,
        [&](std::size_t index, std::span<const float> logits) {
            observer.mtp_logits(static_cast<std::int32_t>(index), logits);
        },
        stall_s);
}

result<void> engine::fill_cache() {
    for (const auto& layer : impl_->cache.layers)
        if (auto done = fill_with_noise(*impl_->queue, layer, impl_->limits.kv_type); !done)
            return done;
    return {};
}

void engine::override_routes(route_override* routes) noexcept { impl_->route_choice = routes; }
void engine::watch_launches(launch_watch* watch) noexcept { impl_->queue->watch(watch); }

step_plan plan_prompt_rows(std::span<const token_id> tokens, std::int32_t first, std::int32_t count,
                           const execution_limits& limits) {
    step_plan plan;
    plan.sequences = 1;
    for (std::int32_t page = 0; page * limits.page_tokens < first + count; ++page)
        plan.page_table.push_back(page);
    for (std::int32_t row = 0; row < count; ++row) {
        const auto position = first + row;
        plan.tokens.push_back(tokens[static_cast<std::size_t>(position)]);
        plan.positions.push_back(position);
        plan.slots.push_back(position);  // pages 0, 1, 2, ... in order: slot = position
        plan.attention_rows.push_back({position, position + 1, 0, -1});
        sample_request sample;
        sample.row = row;
        sample.position = position + 1;
        plan.samples.push_back(sample);
    }
    return plan;
}

}  // namespace moira
