#include "actors/runtime_border.hpp"

#include "actors/request_json.hpp"

namespace moira {

namespace {

expert_counters to_counters(const expert_store_statistics& experts) {
    expert_counters counters;
    const auto acquired = experts.hits + experts.demand_loads;
    counters.budget_bytes = experts.budget_bytes;
    counters.slots = experts.slots;
    counters.resident = experts.resident;
    counters.hit_rate = acquired == 0 ? 0.0 : static_cast<double>(experts.hits) / static_cast<double>(acquired);
    counters.demand_loads = experts.demand_loads;
    counters.demand_bytes = experts.demand_bytes;
    counters.prefetch_loads = experts.prefetch_loads;
    counters.prefetch_useful = experts.prefetch_useful;
    counters.prefetch_wasted_bytes = experts.prefetch_wasted_bytes;
    counters.stall_s = experts.stall_s;
    counters.recall = prediction_recall(experts);
    counters.precision = prediction_precision(experts);
    if (experts.pruning) {
        counters.routings = experts.pruning->all.routings;
        counters.routings_left_out = experts.pruning->all.left_out;
        counters.routings_replaced = experts.pruning->all.replaced;
    }
    return counters;
}

speculation_counters to_counters(const runtime_identity& identity, const speculation_counts& counts) {
    return {identity.speculation_mode, counts.drafted, counts.accepted, counts.steps};
}

} // namespace

generation_input to_input(const prompt_request& request) {
    generation_input input;
    input.prompt = request.prompt;
    input.ids = request.ids;
    if (request.messages) {
        input.messages.emplace();
        for (const auto& turn : *request.messages)
            input.messages->push_back({turn.role, turn.content});
    }
    input.max_tokens = request.max_tokens;
    input.temperature = request.temperature;
    input.top_p = request.top_p;
    input.min_p = request.min_p;
    input.repetition_penalty = request.repetition_penalty;
    input.top_k = request.top_k;
    input.seed = request.seed;
    input.stop = request.stop;
    input.ignore_eos = request.ignore_eos;
    input.timeout_ms = request.timeout_ms;
    return input;
}

text_end to_end_message(const generation_result& outcome, const runtime_identity& identity,
                        const expert_store_statistics& experts) {
    text_end last;
    last.finish_reason = finish_reason_name(outcome.reason);
    if (outcome.failure) {
        const auto& row = describe(outcome.failure->code);
        last.code = row.name;
        last.message = outcome.failure->message.empty() ? std::string(row.advice) : outcome.failure->message;
    }
    last.token_ids = outcome.token_ids;
    last.text = outcome.text;
    last.prompt_tokens = outcome.prompt_tokens;
    last.completion_tokens = outcome.completion_tokens;
    last.cached_tokens = outcome.cached_tokens;
    last.logits_hash = outcome.logits_hash;
    last.numerics_id = identity.numerics_id;
    last.seed = outcome.seed;
    last.lossy = identity.lossy;
    last.plugins = identity.plugins;
    last.experts = to_counters(experts);
    last.speculation = to_counters(identity, outcome.speculation);
    constexpr double ms_per_s = 1e3;
    last.queue_ms = outcome.queue_s * ms_per_s;
    last.ttft_ms = outcome.ttft_s * ms_per_s;
    last.prefill_ms = outcome.prefill_s * ms_per_s;
    last.decode_ms = outcome.decode_s * ms_per_s;
    return last;
}

runtime_counters to_counters(const runtime_statistics& statistics) {
    runtime_counters counters;
    const auto& identity = statistics.identity;
    const auto& batch = statistics.batch;
    counters.model = identity.model;
    counters.numerics_id = identity.numerics_id;
    counters.vocabulary = identity.vocabulary;
    counters.context_max = identity.context_max;
    counters.uptime_s = statistics.uptime_s;
    counters.draining = statistics.draining;
    counters.step_hangs = statistics.step_hangs;
    counters.restarts = statistics.restarts;
    counters.waiting = batch.waiting;
    counters.running = batch.running;
    counters.kv_pages_free = batch.pages_free;
    counters.kv_pages_total = batch.pages_total;
    counters.admitted = batch.admitted;
    counters.finished = batch.finished;
    counters.cancelled = batch.cancelled;
    counters.failed = batch.failed;
    counters.preemptions = batch.preemptions;
    counters.steps = batch.steps;
    counters.rows = batch.rows;
    counters.prompt_tokens = batch.prompt_tokens;
    counters.completion_tokens = batch.completion_tokens;
    counters.cached_tokens = batch.cached_tokens;
    counters.compute_s = statistics.compute_s;
    counters.stall_s = statistics.stall_s;
    counters.lossy = identity.lossy;
    counters.plugins = identity.plugins;
    counters.experts = to_counters(statistics.experts);
    counters.speculation = to_counters(identity, batch.speculation);
    return counters;
}

} // namespace moira
