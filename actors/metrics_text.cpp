#include "actors/metrics_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <type_traits>

namespace moira {

namespace {

/// Layers that get series of their own: each is a label that whoever scrapes must keep. The largest published models have
/// 94 layers with experts.
constexpr std::size_t metric_layers_max = 128;

/// Shortest text that reads back as the same number.
std::string shown(double number) {
    std::array<char, 32> digits{};
    const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    return {digits.data(), written.ptr};
}

template <class Whole>
    requires std::is_integral_v<Whole>
std::string shown(Whole number) {
    return std::to_string(number);
}

std::string escaped(std::string_view label) {
    std::string text;
    for (const char letter : label) {
        if (letter == '\\' || letter == '"')
            text += '\\';
        if (letter == '\n')
            text += "\\n";
        else
            text += letter;
    }
    return text;
}

class metrics_writer {
public:
    template <class Number>
    void counter(std::string_view name, std::string_view help, Number value) {
        write(name, help, "counter", shown(value));
    }

    template <class Number>
    void gauge(std::string_view name, std::string_view help, Number value) {
        write(name, help, "gauge", shown(value));
    }

    void info(const runtime_identity& identity) {
        head("info", "what is served, as labels", "gauge");
        text_.append("moira_info{model=\"").append(escaped(identity.model)).append("\",numerics_id=\"");
        text_.append(escaped(identity.numerics_id)).append("\",lossy=\"");
        std::string lossy;
        for (const auto& lever : identity.lossy)
            lossy += (lossy.empty() ? "" : ",") + lever;
        text_.append(escaped(lossy)).append("\"} 1\n");
    }

    /// One value per layer, label `layer`; `value` tells it, or nothing.
    template <class Value>
    void per_layer(std::string_view name, std::string_view help, std::string_view type,
                   const expert_store_statistics& experts, Value value) {
        head(name, help, type);
        for (std::size_t i = 0; i < std::min(experts.layers.size(), metric_layers_max); ++i) {
            const auto& layer = experts.layers[i];
            const auto found = std::optional(value(layer));
            if (!found)
                continue;
            text_.append("moira_").append(name).append("{layer=\"").append(std::to_string(layer.layer)).append("\"} ");
            text_.append(shown(*found)).append("\n");
        }
    }

    std::string take() { return std::move(text_); }

private:
    void head(std::string_view name, std::string_view help, std::string_view type) {
        text_.append("# HELP moira_").append(name).append(" ").append(help);
        text_.append("\n# TYPE moira_").append(name).append(" ").append(type).append("\n");
    }

    void write(std::string_view name, std::string_view help, std::string_view type, const std::string& value) {
        head(name, help, type);
        text_.append("moira_").append(name).append(" ").append(value).append("\n");
    }

    std::string text_;
};

std::uint64_t whole(std::int32_t number) {
    return number < 0 ? 0 : static_cast<std::uint64_t>(number);
}

void write_requests(metrics_writer& out, const runtime_statistics& runtime) {
    const auto& batch = runtime.batch;
    out.gauge("waiting_requests", "requests that wait for the batch", whole(batch.waiting));
    out.gauge("running_requests", "requests in the batch", whole(batch.running));
    out.counter("admitted_requests", "requests that entered the batcher", batch.admitted);
    out.counter("finished_requests", "requests that ended well", batch.finished);
    out.counter("cancelled_requests", "requests that were cancelled", batch.cancelled);
    out.counter("failed_requests", "requests that ended with an error", batch.failed);
    out.counter("preemptions", "sequences that gave up their pages", batch.preemptions);
    out.counter("steps", "forward passes", batch.steps);
    out.counter("rows", "rows of all forward passes", batch.rows);
    out.counter("prompt_tokens", "tokens of prompts", batch.prompt_tokens);
    out.counter("completion_tokens", "tokens that were emitted", batch.completion_tokens);
    out.counter("cached_tokens", "tokens of prompts whose prefix was reused", batch.cached_tokens);
    out.counter("drafted_tokens", "drafted and verified", batch.speculation.drafted);
    out.counter("accepted_tokens", "drafted tokens that were right", batch.speculation.accepted);
    out.counter("dropped_draft_tokens", "offered by the model and not verified", batch.dropped_drafts);
    out.counter("draft_failures", "drafting passes that failed", batch.draft_failures);
    out.gauge("free_kv_pages", "pages of the KV cache that are free", whole(batch.pages_free));
    out.gauge("kv_pages", "pages of the KV cache", whole(batch.pages_total));
}

/// Of the store in memory below the one on a GPU.
void write_host_tier(metrics_writer& out, const expert_store_statistics& tier) {
    out.gauge("host_tier_budget_bytes", "memory for experts below the GPU's", tier.budget_bytes);
    out.gauge("host_tier_slots", "experts that fit into it", tier.slots);
    out.gauge("host_tier_resident_experts", "experts in it", tier.resident);
    out.counter("host_tier_hits", "experts that it had when the GPU lacked them", tier.hits);
    out.counter("host_tier_demand_loads", "experts read from disk for the GPU", tier.demand_loads);
    out.counter("host_tier_demand_bytes", "bytes of these reads", tier.demand_bytes);
}

/// Over the latest visits: gauges, for the window slides.
void write_regret(metrics_writer& out, const expert_regret& regret) {
    out.gauge("expert_regret_window_uses", "latest uses of experts that were compared with the optimum", regret.uses);
    out.gauge("expert_regret_window_loads", "loads for these uses, also ahead of need", regret.loads);
    out.gauge("expert_regret_optimal_loads", "what Belady's optimum would have loaded in as many slots",
              regret.optimal_loads);
}

void write_layers(metrics_writer& out, const expert_store_statistics& experts) {
    using layer = layer_statistics;
    out.per_layer("layer_expert_hits", "uses of experts of the layer that were in memory", "counter", experts,
                  [](const layer& of) { return of.hits; });
    out.per_layer("layer_expert_demand_loads", "loads that the layer waited for", "counter", experts,
                  [](const layer& of) { return of.demand_loads; });
    out.per_layer("layer_expert_hit_ratio", "share of uses that found the expert in memory", "gauge", experts,
                  [](const layer& of) { return of.hit_rate(); });
    out.per_layer("layer_expert_prefetch_loads", "loads of the layer's experts ahead of need", "counter", experts,
                  [](const layer& of) { return of.prefetch_loads; });
    out.per_layer("layer_expert_useful_prefetch_loads", "of these: used", "counter", experts,
                  [](const layer& of) { return of.prefetch_useful; });
    out.per_layer("layer_expert_wasted_prefetch_bytes", "bytes of those that left unused", "counter", experts,
                  [](const layer& of) { return of.prefetch_wasted_bytes; });
    out.per_layer("layer_expert_recall_ratio", "share of absent experts asked for that a hint had named", "gauge",
                  experts, [](const layer& of) { return of.recall(); });
    out.per_layer("layer_expert_stall_seconds", "time that the layer waited for experts", "counter", experts,
                  [](const layer& of) { return of.stall_s; });
    out.per_layer("layer_expert_regret_loads", "loads beyond the optimum's for the latest uses; may be below zero",
                  "gauge", experts, [](const layer& of) { return of.regret_loads; });
}

void write_experts(metrics_writer& out, const expert_store_statistics& experts) {
    out.gauge("expert_budget_bytes", "memory for experts", experts.budget_bytes);
    out.gauge("expert_slots", "experts that fit", experts.slots);
    out.gauge("resident_experts", "experts in memory", experts.resident);
    out.counter("expert_hits", "uses of experts that were in memory", experts.hits);
    out.counter("expert_demand_loads", "loads that a step waited for", experts.demand_loads);
    out.counter("expert_demand_bytes", "bytes of these loads", experts.demand_bytes);
    out.counter("drafted_expert_hits", "uses by drafted rows alone", experts.drafted.hits);
    out.counter("drafted_expert_demand_loads", "loads for drafted rows alone", experts.drafted.demand_loads);
    out.counter("drafted_expert_demand_bytes", "bytes of these loads", experts.drafted.demand_bytes);
    out.counter("mtp_expert_hits", "uses by the multi-token-prediction layer", experts.module.hits);
    out.counter("mtp_expert_demand_loads", "loads for the multi-token-prediction layer", experts.module.demand_loads);
    out.counter("mtp_expert_demand_bytes", "bytes of these loads", experts.module.demand_bytes);
    out.counter("expert_prefetch_loads", "loads ahead of need", experts.prefetch_loads);
    out.counter("expert_useful_prefetch_loads", "loads ahead that were used", experts.prefetch_useful);
    out.counter("expert_wasted_prefetch_loads", "loads ahead that left unused", experts.prefetch_wasted);
    out.counter("expert_wasted_prefetch_bytes", "bytes of loads ahead that left unused", experts.prefetch_wasted_bytes);
    const auto pruned = experts.pruning ? experts.pruning->all : pruning_counts();
    out.counter("expert_routings", "experts that routers chose, counted while pruning is on", pruned.routings);
    out.counter("expert_left_out_routings", "of them: left out by gate mass", pruned.left_out);
    out.counter("expert_replaced_routings", "of them: replaced by cache-aware routing", pruned.replaced);
    out.counter("expert_evictions", "experts that left memory", experts.evictions);
    out.counter("expert_load_failures", "loads that failed for good", experts.load_failures);
    out.counter("expert_load_retries", "loads that were tried again", experts.load_retries);
    out.counter("expert_stall_seconds", "time that steps waited for experts", experts.stall_s);
    out.counter("step_compute_seconds", "time of steps without waiting for experts", experts.compute_s);
    out.counter("expert_link_idle_seconds", "time of steps in which no expert was read", experts.link_idle_s);
    if (experts.host_tier)
        write_host_tier(out, *experts.host_tier);
    out.gauge("experts", "experts of the model", experts.slots_all);
    out.gauge("expert_slot_bytes", "memory of one expert", experts.slot_bytes);
    out.gauge("expert_bypass", "1 while fewer experts fit than one token uses", std::uint64_t{experts.bypass});
    out.gauge("expert_slots_to_halve", "slots with which there would be half as many loads; 0: unknown",
              experts.slots_to_halve);
    write_regret(out, experts.regret.value_or(expert_regret()));
    write_layers(out, experts);
}

void write_server(metrics_writer& out, const tcp_statistics& server) {
    out.gauge("http_connections", "connections that are open", std::uint64_t{server.connections});
    out.gauge("http_requests", "generations of this gateway that run", std::uint64_t{server.requests});
    out.counter("http_accepted_connections", "connections that were accepted", server.accepted);
    out.counter("http_refused_connections", "connections over the limit", server.refused);
    out.counter("http_slow_connections", "connections closed because the peer did not read", server.closed_slow);
}

} // namespace

std::string metrics_text(const runtime_statistics& runtime, const tcp_statistics& server) {
    metrics_writer out;
    out.info(runtime.identity);
    out.gauge("uptime_seconds", "since the runtime started", runtime.uptime_s);
    out.gauge("draining", "1 while nothing new is taken", std::uint64_t{runtime.draining ? 1U : 0U});
    write_requests(out, runtime);
    out.counter("compute_seconds", "time inside steps", runtime.compute_s);
    out.counter("step_stall_seconds", "of it: waiting for experts", runtime.stall_s);
    constexpr double us_per_s = 1e6;
    out.gauge("step_overhead_p50_seconds", "per step outside its compute, median", runtime.overhead_us_p50 / us_per_s);
    out.gauge("step_overhead_p99_seconds", "per step outside its compute", runtime.overhead_us_p99 / us_per_s);
    write_experts(out, runtime.experts);
    write_server(out, server);
    return out.take();
}

} // namespace moira
