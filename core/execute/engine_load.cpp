#include "core/execute/engine_parts.hpp"

#include "core/base/checked.hpp"
#include "core/execute/kv_type.hpp"

#include <algorithm>
#include <chrono>

// Loading: everything between an open checkpoint and the first step.

namespace moira {

namespace {

/// As many pages as the budget holds, at least one full context, at most what all sequences could fill.
std::int32_t page_count(const model_shape& shape, const engine_options& options, const execution_limits& limits) {
    const auto page_tokens = static_cast<std::uint64_t>(limits.page_tokens);
    const auto page_bytes = kv_page_bytes(shape, limits, shape.layers + mtp_modules(options));
    const auto context_pages = round_up(static_cast<std::uint64_t>(limits.context_max), page_tokens) / page_tokens;
    const auto useful = context_pages * static_cast<std::uint64_t>(options.sequences_max);
    return static_cast<std::int32_t>(std::clamp(options.kv_budget_bytes / page_bytes, context_pages, useful));
}

execution_limits limits_for(const model_shape& shape, const engine_options& options, const op_selector& selector) {
    execution_limits limits;
    limits.rows_max = options.rows_max;
    limits.logits_rows_max = options.sequences_max;
    limits.context_max = options.context_max > 0 ? std::min(options.context_max, shape.context_max) : shape.context_max;
    limits.page_tokens = options.page_tokens;
    limits.kv_type = choose_kv_type(selector, shape, limits);
    limits.pages = page_count(shape, options, limits);
    return limits;
}

result<void> check_options(const engine_options& options) {
    const bool in_range = options.rows_max >= 1 && options.sequences_max >= 1 && options.context_max >= 0 &&
                          options.page_tokens >= 1 && options.experts_budget_share >= 0.0 &&
                          options.vram_budget.share >= 0.0;
    if (!in_range || options.rows_max < options.sequences_max)
        return fail(errc::invalid_config, "a step of " + std::to_string(options.rows_max) + " rows cannot hold " +
                                              std::to_string(options.sequences_max) +
                                              " sequences: raise batch.max_step_tokens or lower batch.max_sequences");
    return {};
}

}  // namespace

engine::impl::impl(checkpoint opened, const op_selector& chosen, const engine_options& wanted)
    : model(std::move(opened)), selector(chosen), options(wanted), limits(limits_for(model.shape(), wanted, chosen)),
      names(weight_names(model.shape(), mtp_modules(wanted))), ops(chosen) {}

/// The file that experts.predictor names, if it is one.
result<std::optional<trained_predictor>> engine::impl::load_predictor() const {
    if (options.predictor.file.empty())
        return std::optional<trained_predictor>();
    auto trained = read_predictor(options.predictor.file);
    if (!trained)
        return tl::unexpected(trained.error());
    auto fingerprint = router_fingerprint(model);
    if (!fingerprint)
        return tl::unexpected(fingerprint.error());
    const auto subject = subject_of(model.shape(), model.folder().filename().string(), *fingerprint);
    if (auto fits = check_subject(options.predictor.file, trained->subject, subject); !fits)
        return tl::unexpected(fits.error());
    if ((options.predictor.source == route_source::heads) != trained->heads.has_value())
        return fail(errc::invalid_config, options.predictor.file + ": found " + trained->kind() +
                                              ", expected what experts.predictor names before the file");
    return std::optional(std::move(*trained));
}

result<void> engine::impl::create_probe() {
    if (!options.predict_routes && !options.measure_routes)
        return {};
    const auto& shape = model.shape();
    auto trained = load_predictor();
    if (!trained)
        return tl::unexpected(trained.error());
    route_probe_options wanted;
    wanted.audit_always = options.measure_routes;
    if (pruning)
        wanted.hinted_ranks_max = pruning->hinted_ranks();
    if (*trained && (*trained)->heads)
        wanted.heads = &*(*trained)->heads;
    if (*trained && (*trained)->history) {
        wanted.history = std::move((*trained)->history);
    } else if (options.measure_routes || options.predictor.source == route_source::history) {
        auto made = history_model::create({shape.moe_layers(), shape.moe.experts, shape.moe.top_k});
        if (made)
            wanted.history = std::move(*made);
        else if (options.predictor.source == route_source::history)
            return tl::unexpected(made.error());
    }
    // Two of the largest steps that are predicted, so that a predictor may be one step late.
    const auto rows = static_cast<std::size_t>(route_rows_max);
    routes = std::make_shared<route_board>(shape.layers, std::min(shape.moe.top_k, static_cast<std::int32_t>(route_ids_max)),
                                           2 * rows * static_cast<std::size_t>(shape.moe_layers()), probe_ranks(shape),
                                           options.predictor.source);
    if (wanted.history)
        routes->teach(std::make_unique<history_learner>(wanted.history, routing_layers(shape.layer_is_moe), 4 * rows));
    auto made = route_probe::create(shape, limits, selector, *queue, routes, wanted);
    if (!made)
        return tl::unexpected(made.error());
    probe = std::move(*made);
    return {};
}

result<void> engine::impl::load(load_progress progress) {
    const auto begin = std::chrono::steady_clock::now();
    const auto& memory = selector.memory_provider();
    auto made_queue = device_queue::create(memory);
    if (!made_queue)
        return tl::unexpected(made_queue.error());
    queue = std::move(*made_queue);
    weight_loader loader(model, names, limits, ops, memory, *queue, std::move(progress));
    auto experts = loader.prepare_experts(options.precision);
    if (!experts)
        return tl::unexpected(experts.error());
    // Before the dense weights: a budget that cannot work is refused at once.
    if (auto done = create_stores(*experts, memory); !done)
        return done;
    auto loaded = loader.load(*experts, arena_extras.embedding_row_bytes > 0);
    if (!loaded)
        return tl::unexpected(loaded.error());
    weights = std::move(*loaded);
    auto made_cache = kv_cache::create(model.shape(), model.shape().layers + mtp_modules(options), limits, memory);
    if (!made_cache)
        return tl::unexpected(made_cache.error());
    cache = std::move(*made_cache);
    auto made_pruning = expert_pruning::create(options.pruning, model.shape(), limits, ops, memory);
    if (!made_pruning)
        return tl::unexpected(made_pruning.error());
    pruning = std::move(*made_pruning);
    if (auto done = create_probe(); !done)
        return done;
    auto made_resident = resident_step::create(model.shape(), limits, ops, memory);
    if (!made_resident)
        return tl::unexpected(made_resident.error());
    resident = std::move(*made_resident);
    arena_extras.workspace_bytes = std::max(ops.workspace_bytes(), probe ? probe->workspace_bytes() : 0);
    arena_extras.with_mtp = options.mtp;
    auto made_arena = step_arena::create(model.shape(), limits, memory, arena_extras);
    if (!made_arena)
        return tl::unexpected(made_arena.error());
    arena = std::move(*made_arena);
    if (auto done = create_tables(memory); !done)
        return done;
    load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return {};
}

result<std::unique_ptr<engine>> engine::load(checkpoint model, const op_selector& selector,
                                             const engine_options& options, load_progress progress) {
    if (auto fine = check_options(options); !fine)
        return tl::unexpected(fine.error());
    if (options.mtp && model.shape().mtp_layers == 0)
        return fail(errc::unsupported, model.folder().string() + ": there is no multi-token-prediction layer");
    if (auto runnable = check_runnable(model, mtp_modules(options)); !runnable)
        return tl::unexpected(runnable.error());
    auto parts = std::make_unique<impl>(std::move(model), selector, options);
    if (auto done = parts->load(std::move(progress)); !done)
        return tl::unexpected(done.error());
    return std::unique_ptr<engine>(new engine(std::move(parts)));
}

}  // namespace moira
