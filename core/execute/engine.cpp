#include "core/execute/engine.hpp"

#include "core/base/checked.hpp"
#include "core/execute/kv_type.hpp"
#include "core/execute/layer_loop.hpp"
#include "core/execute/memory_plan.hpp"
#include "core/execute/mtp_block.hpp"
#include "core/execute/mtp_drafting.hpp"
#include "core/execute/route_probe.hpp"
#include "core/experts/available_memory.hpp"
#include "core/experts/locked_memory.hpp"
#include "core/model/shown_name.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace moira {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// How many multi-token-prediction modules are loaded: drafting goes on from the first one's own state.
std::int32_t mtp_modules(const engine_options& options) { return options.mtp ? 1 : 0; }

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
                          options.page_tokens >= 1 && options.experts_budget_share >= 0.0;
    if (!in_range || options.rows_max < options.sequences_max)
        return fail(errc::invalid_config, "a step of " + std::to_string(options.rows_max) + " rows cannot hold " +
                                              std::to_string(options.sequences_max) +
                                              " sequences: raise batch.max_step_tokens or lower batch.max_sequences");
    return {};
}

}  // namespace

struct engine::impl {
    impl(checkpoint opened, const op_selector& chosen, const engine_options& wanted)
        : model(std::move(opened)), selector(chosen), options(wanted), limits(limits_for(model.shape(), wanted, chosen)),
          names(weight_names(model.shape(), mtp_modules(wanted))), ops(chosen) {}

    result<void> load(load_progress progress);
    result<void> create_store(const expert_execution& experts);
    result<void> run_rows(const step_plan& plan, const logits_function& on_logits, forward_observer* observer,
                          double& stall_s);
    result<void> create_staging(const op_provider& memory);
    result<void> run_mtp_pass(const mtp_pass& pass, const logits_function& on_logits, double& stall_s);
    result<void> carry_states(std::span<const std::size_t> stayed);
    result<void> offer_drafts(const step_plan& plan, step_result& outcome);
    result<std::optional<trained_predictor>> load_predictor() const;
    result<void> create_probe();

    /// On their way into a slot, or already when the model was packed: the same values.
    bool experts_rounded() const noexcept { return packing.quantizes() || !model.shape().quantized_from.empty(); }

    checkpoint model;
    const op_selector& selector;
    engine_options options;
    execution_limits limits;
    model_weight_names names;
    op_set ops;
    std::optional<device_queue> queue;
    model_weights weights;
    expert_packing packing;
    std::unique_ptr<slab_source> source;
    std::unique_ptr<expert_store> store;
    kv_cache cache;
    step_arena arena;
    std::shared_ptr<route_board> routes;
    std::unique_ptr<expert_pruning> pruning;
    std::unique_ptr<route_probe> probe;
    route_override* route_choice = nullptr;
    step_arena::extras arena_extras;
    std::int32_t step_rows = 0;  // of one step, in blocks that the arena holds
    double load_s = 0;
};

result<void> engine::impl::create_store(const expert_execution& experts) {
    const auto& shape = model.shape();
    packing = experts.packing;
    auto made_source = make_checkpoint_slab_source(model, names, *experts.op->provider, options.io, options.precision);
    if (!made_source)
        return tl::unexpected(made_source.error());
    source = std::move(*made_source);
    expert_store_options wanted;
    wanted.layers = shape.layers + mtp_modules(options);
    if (options.mtp)
        wanted.module_layer = shape.layers;
    wanted.experts = shape.moe.experts;
    wanted.top_k = shape.moe.top_k;
    wanted.moe_layers = shape.moe_layers() + mtp_modules(options);
    wanted.slab_bytes = source->slab_bytes();
    wanted.slab_alignment = std::max(packing.info.alignment, device_alignment);
    wanted.layout_id = packing.info.layout_id;
    wanted.loader_threads = options.loader_threads;
    const auto slot_bytes = round_up(wanted.slab_bytes, wanted.slab_alignment);
    const auto all_bytes = slot_bytes * static_cast<std::uint64_t>(wanted.moe_layers) * static_cast<std::uint64_t>(wanted.experts);
    wanted.budget_bytes = options.experts_budget_automatic ? all_bytes
                          : options.experts_budget_share > 0
                              ? static_cast<std::uint64_t>(std::llround(options.experts_budget_share * static_cast<double>(all_bytes)))
                              : options.experts_budget_bytes;
    auto policy = make_eviction_policy(options.eviction_policy, {.layers = wanted.layers,
                                                                 .experts = wanted.experts,
                                                                 .moe_layers = wanted.moe_layers});
    if (!policy)
        return tl::unexpected(policy.error());
    const auto routed = static_cast<std::uint64_t>(wanted.moe_layers) * static_cast<std::uint64_t>(wanted.experts);
    arena_extras.with_mtp = options.mtp;
    arena_extras.workspace_bytes = ops.workspace_bytes();
    const auto* table = embedding_worth_leaving(model, names, limits);
    const auto reading = (std::uint64_t{options.loader_threads} + 1) * source->scratch_bytes();
    const auto available = available_memory_bytes();
    const auto with_table = needs_beside_experts(model, names, limits, arena_extras, reading, nullptr, false);
    // Memory is worth more to experts than to a table of which a token reads one row.
    const bool fits_all = wanted.budget_bytes / slot_bytes >= routed &&
                          (!options.experts_budget_automatic || plan_expert_budget(with_table, all_bytes, false, available));
    if (table && !fits_all)
        arena_extras.embedding_row_bytes = table->bytes / static_cast<std::uint64_t>(table->shape[0]);
    const auto beside =
        fits_all ? with_table : needs_beside_experts(model, names, limits, arena_extras, reading, table, true);
    const auto planned = plan_expert_budget(beside, std::min(wanted.budget_bytes, all_bytes),
                                            options.experts_budget_automatic, available);
    if (!planned)
        return fail(planned.error().code, model.folder().string() + ": " + planned.error().message);
    if (options.experts_budget_automatic)
        wanted.budget_bytes = *planned;
    auto made_store = expert_store::create(wanted, *source, std::move(*policy));
    if (!made_store)
        return tl::unexpected(made_store.error());
    store = std::move(*made_store);
    if (store->statistics().slots >= routed)
        return {};
    if (mtp_modules(options) == 0)
        step_rows = std::max(limits.rows_max, long_step_rows(shape, static_cast<std::int64_t>(store->statistics().slots)));
    return {};
}

/// The store's slots are host memory, which only CPU kernels read in place.
result<void> engine::impl::create_staging(const op_provider& memory) {
    if (memory.device_class == "cpu")
        return {};
    // Twice one token's experts, so that a step of a few rows is not cut into more waves than the store asks for.
    const auto slots = std::min(2 * model.shape().moe.top_k, model.shape().moe.experts);
    auto made = expert_staging::create(memory, model.shape().moe.experts, slots, source->slab_bytes(),
                                       std::max(packing.info.alignment, device_alignment));
    if (!made)
        return tl::unexpected(made.error());
    arena.staging = std::move(*made);
    return {};
}

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
    if (auto done = create_store(*experts); !done)
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
    arena_extras.workspace_bytes = std::max(ops.workspace_bytes(), probe ? probe->workspace_bytes() : 0);
    arena_extras.with_mtp = options.mtp;
    auto made_arena = step_arena::create(model.shape(), limits, memory, arena_extras);
    if (!made_arena)
        return tl::unexpected(made_arena.error());
    arena = std::move(*made_arena);
    if (auto done = create_staging(memory); !done)
        return done;
    load_s = seconds_since(begin);
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
    return done;
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
    const step_context step{model.shape(), weights, arena, *queue, probe.get(), drafted, prompts, pruning.get(), route_choice};
    if (plan.rows() > limits.rows_max) {
        if (plan.rows() > step_rows || observer || route_choice)
            return fail(errc::internal, "a step of " + std::to_string(plan.rows()) + " rows");
        return forward_in_blocks(step, plan, limits.rows_max, cache, *store, on_logits, stall_s);
    }
    if (auto done = arena.upload(plan, *queue); !done)
        return done;
    if (probe)
        probe->begin_step(plan, store->wants_hints());
    std::vector<std::int32_t> rows;
    rows.reserve(plan.samples.size());
    for (const auto& sample : plan.samples)
        rows.push_back(sample.row);
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
    if (!done) {
        outcome.failure = done.error();
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

bool engine::has_mtp() const noexcept { return impl_->weights.mtp.has_value(); }
const model_shape& engine::shape() const noexcept { return impl_->model.shape(); }
const checkpoint& engine::model() const noexcept { return impl_->model; }
const execution_limits& engine::limits() const noexcept { return impl_->limits; }
std::int32_t engine::step_rows_max() const noexcept { return std::max(impl_->step_rows, impl_->limits.rows_max); }
expert_store& engine::experts() noexcept { return *impl_->store; }
const std::shared_ptr<route_board>& engine::routes() const noexcept { return impl_->routes; }

expert_store_statistics engine::expert_statistics() const {
    auto shown = impl_->store->statistics();
    if (impl_->routes)
        shown.prediction = impl_->routes->report();
    if (impl_->pruning)
        shown.pruning = impl_->pruning->report();
    return shown;
}

result<void> engine::fill_cache() {
    for (const auto& layer : impl_->cache.layers)
        if (auto done = fill_with_noise(*impl_->queue, layer, impl_->limits.kv_type); !done)
            return done;
    return {};
}

void engine::override_routes(route_override* routes) noexcept { impl_->route_choice = routes; }
void engine::watch_launches(launch_watch* watch) noexcept { impl_->queue->watch(watch); }
std::uint64_t engine::slab_bytes() const noexcept { return impl_->source->slab_bytes(); }
std::uint64_t engine::expert_source_bytes() const noexcept { return impl_->packing.source_bytes; }
std::uint64_t engine::kv_bytes() const noexcept {
    return std::accumulate(impl_->cache.layers.begin(), impl_->cache.layers.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const device_buffer& layer) { return sum + layer.bytes(); });
}
std::uint64_t engine::dense_bytes() const noexcept { return impl_->weights.dense_bytes; }
std::string engine::numerics_id() const {
    return impl_->ops.numerics_id() + "/kv-" + kv_type_name(impl_->limits.kv_type) + (impl_->experts_rounded() ? "/experts-fp8" : "") +
           (impl_->pruning ? "/" + impl_->pruning->numerics_id() : "");
}

std::vector<std::string> engine::lossy() const {
    std::vector<std::string> levers;
    if (impl_->experts_rounded())
        levers.emplace_back("experts.precision=fp8");
    if (impl_->pruning)
        levers.push_back(impl_->pruning->lever());
    return levers;
}

std::map<std::string, std::string> engine::plugins() const { return impl_->ops.plugins(); }
double engine::load_s() const noexcept { return impl_->load_s; }

std::string engine::summary() const {
    std::map<std::string, std::int32_t> ops_by_plugin;
    for (const auto& [op, plugin] : plugins())
        ++ops_by_plugin[plugin];
    std::string where;
    for (const auto& [plugin, count] : ops_by_plugin)
        where += (where.empty() ? "" : ", ") + std::to_string(count) + " ops on " + plugin;
    const auto experts = impl_->store->statistics();
    const auto& shape = impl_->model.shape();
    return impl_->model.folder().filename().string() + " (" + shape.architecture + "): " + where + "; experts in " +
           std::to_string(experts.slots) + " slots for " + std::to_string((shape.moe_layers() + mtp_modules(impl_->options)) * shape.moe.experts) + ", " +
           (impl_->packing.quantizes() ? "rounded to FP8, " : "") + (impl_->pruning ? "lossy " + impl_->pruning->lever() + ", " : "") + impl_->source->description() +
           (impl_->weights.embedding_rows ? "; embedding rows read when needed" : "") + "; context " + std::to_string(impl_->limits.context_max) + ", KV cache of " +
           std::to_string(std::int64_t{impl_->limits.pages} * impl_->limits.page_tokens) + " tokens in " +
           kv_type_name(impl_->limits.kv_type) + ", " + std::to_string(kv_bytes() >> 20) + " MiB";
}

std::vector<std::string> engine::notices() const {
    auto all = impl_->model.notices();
    const auto of_store = impl_->store->notices();
    all.insert(all.end(), of_store.begin(), of_store.end());
    if (impl_->weights.unlocked_bytes > 0)
        all.push_back(lock_refusal("dense weights", impl_->weights.unlocked_bytes));
    if (impl_->packing.quantizes())
        all.push_back("experts.precision = fp8: experts are rounded from the checkpoint's precision to 8 bits; answers "
                      "differ from the exact ones");
    else if (impl_->experts_rounded())
        all.push_back("the experts of this model were rounded from " + shown_name(impl_->model.shape().quantized_from) +
                      " to 8 bits when it was packed; answers differ from the exact ones");
    if (impl_->pruning)
        all.push_back(impl_->pruning->notice());
    return all;
}

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
