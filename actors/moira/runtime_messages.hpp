#pragma once

#include <caf/all.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// What a host program and a runtime say to each other. Everything here can be serialised: the same messages pass inside
// a process and between processes. This header and its neighbours need the standard library and CAF, nothing else.

namespace moira {

/// A std::optional that CAF 0.17 can serialise.
template <class T>
struct optional_value : std::optional<T> {
    optional_value() = default;

    /// Of a value, a std::optional or std::nullopt.
    template <class U, class = std::enable_if_t<std::is_constructible_v<std::optional<T>, U&&> &&
                                                !std::is_base_of_v<optional_value, std::decay_t<U>>>>
    optional_value(U&& value) : std::optional<T>(std::forward<U>(value)) {}
};

template <class Inspector, class T>
typename Inspector::result_type inspect(Inspector& f, optional_value<T>& x) {
    bool there = x.has_value();
    T value = there ? *x : T();
    if constexpr (Inspector::writes_state) {
        auto outcome = f(there, value);
        if (there)
            x = std::move(value);
        else
            x.reset();
        return outcome;
    } else {
        return f(there, value);
    }
}

/// One turn of a conversation; `role` as the model's chat template knows it ("system", "user", "assistant").
struct prompt_message {
    std::string role, content;
};

/// What to generate: exactly one of prompt, ids and messages. Fields that are not set take the runtime's `sampling.*`
/// settings.
struct prompt_request {
    /// The sink's name for this request, unique among its open ones; every message about it carries the tag.
    std::uint64_t tag = 0;
    optional_value<std::string> prompt;
    optional_value<std::vector<std::int32_t>> ids;
    optional_value<std::vector<prompt_message>> messages;
    optional_value<std::int64_t> max_tokens;
    optional_value<double> temperature, top_p, min_p, repetition_penalty;
    optional_value<std::int64_t> top_k;
    optional_value<std::uint64_t> seed;
    std::vector<std::string> stop;
    bool ignore_eos = false;
    optional_value<std::int64_t> timeout_ms; ///< deadline from acceptance; past it: `deadline_exceeded`
    /// Deltas that the sink takes before it grants more: a window that covers a stall of the sink for a few steps.
    std::uint32_t credit = 8;
};

/// The next tokens of a request and the text that became showable with them. Several steps' worth in one message when
/// the sink had granted no credit meanwhile. A text may be empty (incomplete character, possible stop string).
struct text_delta {
    std::uint64_t tag = 0;
    std::vector<std::int32_t> token_ids;
    std::string text;
};

/// Experts of the whole runtime when a request ended.
struct expert_counters {
    std::uint64_t budget_bytes = 0, slots = 0, resident = 0;
    double hit_rate = 0;
    std::uint64_t demand_loads = 0, demand_bytes = 0;
    std::uint64_t prefetch_loads = 0, prefetch_useful = 0, prefetch_wasted_bytes = 0;
    double stall_s = 0;
    optional_value<double> recall, precision; ///< none: nothing was predicted
    /// Experts that routers chose, and how many of them pruning left out or replaced; 0 without pruning.
    std::uint64_t routings = 0, routings_left_out = 0, routings_replaced = 0;
};

/// Drafts: of one request in text_end, of all requests in runtime_counters.
struct speculation_counters {
    std::string mode;
    std::uint64_t drafted = 0, accepted = 0, steps = 0;
};

/// The last message about a request, however it ended. It needs no credit.
struct text_end {
    std::uint64_t tag = 0;
    std::string finish_reason; ///< "stop", "length", "cancelled", "error"
    std::string code, message; ///< of an error: "queue_full", and a sentence; else empty
    text_delta rest;           ///< what no delta has told yet
    std::vector<std::int32_t> token_ids; ///< all of them, the end token included
    std::string text;                    ///< all of it
    std::int32_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    std::string logits_hash, numerics_id;
    std::uint64_t seed = 0;
    std::vector<std::string> lossy;             ///< active lossy levers; empty: exact
    std::map<std::string, std::string> plugins; ///< op -> plugin
    expert_counters experts;
    speculation_counters speculation;
    double queue_ms = 0, ttft_ms = 0, prefill_ms = 0, decode_ms = 0;
};

/// Counters of a runtime since its start, and what never changes in it.
struct runtime_counters {
    std::string model, numerics_id;
    std::int32_t vocabulary = 0, context_max = 0;
    double uptime_s = 0;
    bool draining = false, step_hangs = false;
    std::map<std::string, std::uint64_t> restarts;
    std::int32_t waiting = 0, running = 0, kv_pages_free = 0, kv_pages_total = 0;
    std::uint64_t admitted = 0, finished = 0, cancelled = 0, failed = 0, preemptions = 0, steps = 0, rows = 0;
    std::uint64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    double compute_s = 0, stall_s = 0;
    std::vector<std::string> lossy;
    std::map<std::string, std::string> plugins;
    expert_counters experts;
    speculation_counters speculation;
};

/// Where text goes. Its death cancels what it has submitted.
using text_sink_actor = caf::typed_actor<caf::reacts_to<text_delta>, caf::reacts_to<text_end>>;

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, prompt_message& x) {
    return f(caf::meta::type_name("prompt_message"), x.role, x.content);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, prompt_request& x) {
    return f(caf::meta::type_name("prompt_request"), x.tag, x.prompt, x.ids, x.messages, x.max_tokens, x.temperature,
             x.top_p, x.min_p, x.repetition_penalty, x.top_k, x.seed, x.stop, x.ignore_eos, x.timeout_ms, x.credit);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, text_delta& x) {
    return f(caf::meta::type_name("text_delta"), x.tag, x.token_ids, x.text);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, expert_counters& x) {
    return f(caf::meta::type_name("expert_counters"), x.budget_bytes, x.slots, x.resident, x.hit_rate, x.demand_loads,
             x.demand_bytes, x.prefetch_loads, x.prefetch_useful, x.prefetch_wasted_bytes, x.stall_s, x.recall,
             x.precision, x.routings, x.routings_left_out, x.routings_replaced);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, speculation_counters& x) {
    return f(caf::meta::type_name("speculation_counters"), x.mode, x.drafted, x.accepted, x.steps);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, text_end& x) {
    return f(caf::meta::type_name("text_end"), x.tag, x.finish_reason, x.code, x.message, x.rest, x.token_ids, x.text,
             x.prompt_tokens, x.completion_tokens, x.cached_tokens, x.logits_hash, x.numerics_id, x.seed, x.lossy,
             x.plugins, x.experts, x.speculation, x.queue_ms, x.ttft_ms, x.prefill_ms, x.decode_ms);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, runtime_counters& x) {
    return f(caf::meta::type_name("runtime_counters"), x.model, x.numerics_id, x.vocabulary, x.context_max, x.uptime_s,
             x.draining, x.step_hangs, x.restarts, x.waiting, x.running, x.kv_pages_free, x.kv_pages_total, x.admitted,
             x.finished, x.cancelled, x.failed, x.preemptions, x.steps, x.rows, x.prompt_tokens, x.completion_tokens,
             x.cached_tokens, x.compute_s, x.stall_s, x.lossy, x.plugins, x.experts, x.speculation);
}

/// CAF 0.17 resolves type ids while compiling and sends names: two blocks of ids must differ only where one source file
/// sees both. A host program's own block begins, as CAF advises, at caf::first_custom_type_id; ours lies far above it.
inline constexpr caf::type_id_t first_type_id = caf::first_custom_type_id + 20'000;

} // namespace moira

CAF_BEGIN_TYPE_ID_BLOCK(moira_runtime, ::moira::first_type_id)

    CAF_ADD_TYPE_ID(moira_runtime, (moira::prompt_message))
    CAF_ADD_TYPE_ID(moira_runtime, (moira::prompt_request))
    CAF_ADD_TYPE_ID(moira_runtime, (moira::text_delta))
    CAF_ADD_TYPE_ID(moira_runtime, (moira::text_end))
    CAF_ADD_TYPE_ID(moira_runtime, (moira::expert_counters))
    CAF_ADD_TYPE_ID(moira_runtime, (moira::speculation_counters))
    CAF_ADD_TYPE_ID(moira_runtime, (moira::runtime_counters))
    CAF_ADD_TYPE_ID(moira_runtime, (moira::text_sink_actor))

    CAF_ADD_ATOM(moira_runtime, moira, submit_atom, "submit")
    CAF_ADD_ATOM(moira_runtime, moira, grant_atom, "grant")
    CAF_ADD_ATOM(moira_runtime, moira, cancel_atom, "cancel")
    CAF_ADD_ATOM(moira_runtime, moira, drain_atom, "drain")
    CAF_ADD_ATOM(moira_runtime, moira, stats_atom, "stats")
    CAF_ADD_ATOM(moira_runtime, moira, listen_atom, "listen")

CAF_END_TYPE_ID_BLOCK(moira_runtime)

namespace moira {

/// A runtime, in this process or in another one.
using runtime_actor = caf::typed_actor<
    // Generate this; every later message about its tag goes to the sink, refusals included.
    caf::reacts_to<submit_atom, prompt_request, text_sink_actor>,
    // The sink is ready for this many more deltas of the tag.
    caf::reacts_to<grant_atom, std::uint64_t, std::uint32_t, text_sink_actor>,
    // Stop the sink's request with this tag; it still gets its text_end.
    caf::reacts_to<cancel_atom, std::uint64_t, text_sink_actor>,
    // Take nothing new from now on; answer when the last open request has ended.
    caf::replies_to<drain_atom>::with<bool>,
    caf::replies_to<stats_atom>::with<runtime_counters>,
    // Open a gateway, "tcp" or "http", on "HOST:PORT" (port 0: any); the answer is the bound address.
    caf::replies_to<listen_atom, std::string, std::string>::with<std::string>>;

} // namespace moira
