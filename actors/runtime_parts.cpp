#include "actors/runtime_parts.hpp"

#include <algorithm>

namespace moira {

static pruning_options pruning_options_of(const prune_settings& all) {
    pruning_options options;
    options.mode = all.mode == "gate_mass"     ? pruning_mode::gate_mass
                   : all.mode == "cache_aware" ? pruning_mode::cache_aware
                                               : pruning_mode::off;
    options.gate_mass = all.gate_mass;
    options.sacred_ranks = all.sacred_ranks;
    options.window = all.window;
    return options;
}

static expert_budget budget_of(const memory_budget& wanted) {
    return {wanted.bytes, wanted.kind_of == memory_budget::kind::share ? wanted.share : 0.0,
            wanted.kind_of == memory_budget::kind::automatic};
}

engine_options engine_options_of(const settings& all) {
    engine_options options;
    options.rows_max = all.batch.max_step_tokens;
    options.sequences_max = all.batch.max_sequences;
    options.context_max = all.context.max_tokens;
    options.page_tokens = all.context.page_tokens;
    options.kv_budget_bytes = all.context.kv_budget.bytes;
    const auto ram = budget_of(all.experts.ram_budget);
    options.experts_budget_bytes = ram.bytes;
    options.experts_budget_share = ram.share;
    options.experts_budget_automatic = ram.automatic;
    options.vram_budget = budget_of(all.experts.vram_budget);
    options.io = all.experts.io == "direct"     ? expert_io::direct
                 : all.experts.io == "buffered" ? expert_io::buffered
                                                : expert_io::automatic;
    options.loader_threads = static_cast<std::uint32_t>(all.experts.loader_threads);
    options.eviction_policy = all.experts.policy;
    options.precision = all.experts.precision == "fp8" ? expert_precision::fp8 : expert_precision::keep;
    options.pruning = pruning_options_of(all.prune);
    options.mtp = all.speculation.mode == "mtp" && all.speculation.max_draft > 0;
    options.predict_routes = all.experts.prefetch != "off";
    options.measure_routes = all.experts.measure_prediction;
    // Settings are checked before they come here.
    options.predictor = parse_predictor_choice(all.experts.predictor).value_or(predictor_choice{});
    return options;
}

prefetch_policy prefetch_policy_of(const settings& all, std::uint32_t compute_threads) {
    prefetch_policy policy;
    policy.mode = all.experts.prefetch == "auto"     ? prefetch_mode::automatic
                  : all.experts.prefetch == "always" ? prefetch_mode::always
                                                     : prefetch_mode::off;
    policy.idle_core = read_device_facts().cpu_cores > compute_threads;
    return policy;
}

batch_options batch_options_of(const settings& all, const engine& model) {
    batch_options options;
    options.sequences_max = all.batch.max_sequences;
    options.step_tokens_max = all.batch.max_step_tokens;
    options.chunk_tokens_max = all.batch.max_chunk_tokens;
    // Where experts do not all fit, a long prompt in one step reads each of them once. Whoever has set a chunk means it.
    if (all.batch.max_chunk_tokens == batch_settings().max_chunk_tokens) {
        options.step_tokens_max = std::max(options.step_tokens_max, model.step_rows_max());
        options.chunk_tokens_max = std::max(options.chunk_tokens_max, model.step_rows_max());
    }
    options.queue_max = all.server.max_queue;
    options.context_max = model.limits().context_max;
    options.vocabulary = model.shape().vocabulary;
    options.eos = model.shape().eos;
    options.kv.pages = model.limits().pages;
    options.kv.page_tokens = model.limits().page_tokens;
    options.kv.reuse_prefixes = all.context.prefix_reuse;
    options.speculation.automatic = all.speculation.mode == "auto";
    options.speculation.source = all.speculation.mode == "off"     ? draft_source::none
                                 : all.speculation.mode == "ngram" ? draft_source::ngram
                                 : model.has_mtp()                 ? draft_source::model
                                                                   : draft_source::ngram;
    options.speculation.draft_max = all.speculation.max_draft;
    return options;
}

sampling_parameters sampling_of(const settings& all) {
    sampling_parameters sampling;
    sampling.temperature = all.sampling.temperature;
    sampling.top_k = all.sampling.top_k;
    sampling.top_p = all.sampling.top_p;
    sampling.min_p = all.sampling.min_p;
    sampling.repetition_penalty = all.sampling.repetition_penalty;
    sampling.seed = all.sampling.seed;
    return sampling;
}

tcp_limits tcp_limits_of(const settings& all) {
    using std::chrono::seconds;
    tcp_limits limits;
    limits.connections_max = static_cast<std::size_t>(all.server.max_connections);
    limits.lines.requests_max = static_cast<std::size_t>(all.server.max_requests_per_connection);
    limits.lines.line_bytes_max = all.server.max_line_bytes.bytes;
    limits.http.body_bytes_max = all.server.max_line_bytes.bytes;
    limits.idle_timeout = seconds(all.server.idle_timeout_s);
    limits.line_timeout = seconds(all.server.line_timeout_s);
    limits.write_timeout = seconds(all.server.write_timeout_s);
    limits.write_queue_bytes_max = all.server.max_write_queue_bytes.bytes;
    limits.drain_timeout = seconds(all.server.drain_timeout_s);
    return limits;
}

/// The layer is there and can run; without it `auto` drafts by repetition alone.
static bool may_draft_with_mtp(const settings& all, const checkpoint& model) {
    return all.speculation.mode == "auto" && all.speculation.max_draft > 0 && model.shape().mtp_layers > 0 &&
           check_runnable(model, 1).has_value();
}

plugin_host::options plugin_options_of(const settings& all) {
    plugin_host::options wanted;
    wanted.forced_plugin = all.compute.plugin;
    wanted.device_class = all.compute.device == "cpu" ? "cpu" : "cuda";
    if (all.compute.device == "auto")
        wanted.fallback_class = "cpu";
    wanted.device_index = static_cast<std::uint32_t>(all.compute.gpu);
    return wanted;
}

/// Loads the model on the device that the settings name. A GPU whose plugins lack an op of the model is given up for the
/// processor, which is said, where compute.device leaves the choice.
result<void> model_room::load(checkpoint files, const settings& all, const engine_options& options,
                              const runtime_surroundings& place) {
    auto wanted = plugin_options_of(all);
    wanted.folders = place.plugin_folders;
    wanted.log = place.log;
    while (true) {
        auto host = plugin_host::open(wanted, *pool);
        if (!host)
            return tl::unexpected(host.error());
        const bool may_leave = !wanted.fallback_class.empty() &&
                               (*host)->memory_provider().device_class != wanted.fallback_class;
        auto loaded = engine::load(std::move(files), **host, options, place.progress);
        if (loaded) {
            plugins = std::move(*host);
            model = std::move(*loaded);
            return {};
        }
        if (loaded.error().code != errc::op_missing || !may_leave)
            return tl::unexpected(loaded.error());
        auto again = checkpoint::open(place.model); // loading took the first one
        if (!again)
            return tl::unexpected(again.error());
        if (place.log)
            place.log(log_level::warning, "compute.device=auto: the processor is used, because the GPU's plugins cannot run this "
                                          "model: " + loaded.error().message);
        files = std::move(*again);
        wanted.device_class = std::exchange(wanted.fallback_class, {});
    }
}

result<model_room> model_room::open(const settings& all, const runtime_surroundings& place) {
    // The checkpoint first: a mistyped model is found before anything else is built.
    auto opened = checkpoint::open(place.model);
    if (!opened)
        return tl::unexpected(opened.error());
    model_room room;
    compute_pool::options threads;
    threads.threads = static_cast<std::uint32_t>(all.compute.threads);
    threads.spin_us_max = static_cast<std::uint32_t>(all.compute.spin_us);
    threads.shrink_when_crowded = true;
    room.pool = std::make_unique<compute_pool>(threads);
    auto options = engine_options_of(all);
    if (may_draft_with_mtp(all, *opened)) {
        options.mtp = true;
        if (place.log)
            place.log(log_level::info, "speculation.mode=auto: the multi-token-prediction layer is loaded too; sequences "
                                       "draft with it while that is measured to be faster");
    }
    options.mtp = options.mtp || place.mtp;
    if (auto done = room.load(std::move(*opened), all, options, place); !done)
        return tl::unexpected(done.error());
    if (!all.experts.profile.empty())
        room.profile = std::make_unique<hot_experts>(all.experts.profile, *room.model, place.log);
    if (place.log) {
        place.log(log_level::info, room.model->summary() + ", " + std::to_string(room.pool->size()) + " compute threads");
        for (const auto& notice : room.model->notices())
            place.log(log_level::warning, notice);
    }
    return room;
}

result<intake_rules> intake_rules_of(const settings& all, const engine& model, const log_function& log) {
    const auto& folder = model.model().folder();
    intake_rules rules;
    rules.vocabulary = model.shape().vocabulary;
    rules.context_max = model.limits().context_max;
    rules.tokens_max_default = all.sampling.max_tokens;
    rules.sampling_default = sampling_of(all);
    rules.timeout_default = std::chrono::seconds(all.server.request_timeout_s);
    const auto notice = [&](const std::string& sentence) {
        if (log)
            log(log_level::warning, sentence);
    };
    auto text = tokenizer::load(folder);
    if (text)
        rules.text = std::make_shared<const tokenizer>(std::move(*text));
    else if (text.error().code == errc::not_found)
        notice("no tokenizer in " + folder.string() + ": only token ids are served");
    else
        return tl::unexpected(text.error());
    if (rules.text && rules.text->vocabulary_size() > static_cast<std::size_t>(rules.vocabulary))
        notice("the tokenizer has " + std::to_string(rules.text->vocabulary_size()) + " tokens, the model only " +
                          std::to_string(rules.vocabulary) + ": prompts that use the others are refused");
    auto chat = chat_template::load(folder);
    if (chat)
        rules.chat = std::make_shared<const chat_template>(std::move(*chat));
    else if (chat.error().code != errc::not_found)
        notice("the chat template cannot be used: " + chat.error().message);
    return rules;
}

}  // namespace moira
