#include "core/execute/expert_pruning.hpp"

#include "core/execute/attention_block.hpp"
#include "core/route/cache_aware_choice.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>

namespace moira {

namespace {

/// Shortest text that reads back as the same number.
std::string shown(double number) {
    std::array<char, 32> digits{};
    const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    return {digits.data(), written.ptr};
}

result<void> check_options(const pruning_options& options, const moe_shape& moe) {
    if (options.mode == pruning_mode::gate_mass && !(options.gate_mass > 0.0 && options.gate_mass <= 1.0))
        return fail(errc::invalid_argument, "a gate mass of " + shown(options.gate_mass) + ", expected 0 to 1");
    if (options.mode != pruning_mode::cache_aware)
        return {};
    if (options.sacred_ranks < 1 || !(options.window >= 0.0 && options.window <= 1.0))
        return fail(errc::invalid_argument, std::to_string(options.sacred_ranks) + " sacred ranks and a window of " +
                                                shown(options.window) + ", expected at least 1 and 0 to 1");
    if (options.sacred_ranks >= moe.top_k)
        return fail(errc::invalid_config, "prune.sacred_ranks: found " + std::to_string(options.sacred_ranks) +
                                              ", expected less than the " + std::to_string(moe.top_k) +
                                              " experts per token of this model: nothing could ever be replaced");
    return {};
}

pruning_counts& operator+=(pruning_counts& sum, const pruning_counts& more) {
    sum.routings += more.routings;
    sum.left_out += more.left_out;
    sum.replaced += more.replaced;
    return sum;
}

} // namespace

expert_pruning::expert_pruning(const pruning_options& options, const model_shape& shape)
    : options_(options), moe_(shape.moe), layers_(shape.layers),
      counts_(static_cast<std::size_t>(shape.layers + shape.mtp_layers)) {}

result<std::unique_ptr<expert_pruning>> expert_pruning::create(const pruning_options& options, const model_shape& shape,
                                                               const execution_limits& limits, op_set& ops,
                                                               const op_provider& memory) {
    if (options.mode == pruning_mode::off)
        return nullptr;
    if (auto fine = check_options(options, shape.moe); !fine)
        return tl::unexpected(fine.error());
    std::unique_ptr<expert_pruning> made(new expert_pruning(options, shape));
    const auto rows = static_cast<std::size_t>(limits.rows_max);
    const auto chosen = rows * static_cast<std::size_t>(shape.moe.top_k);
    made->router_ids_.reserve(chosen);
    made->host_weights_.resize(chosen);
    if (options.mode == pruning_mode::gate_mass)
        return made;
    const auto candidates = std::min(pruning_candidates_per_rank * shape.moe.top_k, shape.moe.experts);
    made->candidates_ = static_cast<std::size_t>(candidates);
    // The model's own op with more ranks and bare scores: its order, groups and bias without a second implementation.
    auto wider = op_describer(shape, limits).router_topk();
    wider.top_k = static_cast<std::uint32_t>(candidates);
    wider.normalize = 0;
    wider.scale = 1.0F;
    auto prepared = ops.prepare(wider);
    if (!prepared)
        return tl::unexpected(prepared.error());
    made->rank_ = *prepared;
    for (auto* buffer : {&made->ranked_ids_, &made->ranked_scores_}) {
        static_assert(sizeof(std::int32_t) == sizeof(float));
        auto created = device_buffer::create(memory, rows * made->candidates_ * sizeof(float));
        if (!created)
            return tl::unexpected(created.error());
        *buffer = std::move(*created);
    }
    made->host_ranked_.resize(rows * made->candidates_);
    made->host_scores_.resize(rows * made->candidates_);
    made->present_.resize(static_cast<std::size_t>(shape.moe.experts));
    return made;
}

result<void> expert_pruning::check_ids(std::span<const std::int32_t> ids) const {
    for (const auto id : ids)
        if (id < 0 || id >= moe_.experts)
            return fail(errc::device_error,
                        "the router chose expert " + std::to_string(id) + " of " + std::to_string(moe_.experts));
    return {};
}

result<void> expert_pruning::choose(const step_context& step, std::int32_t layer, const moe_layer& moe,
                                    const expert_store& store) {
    auto& counts = counts_[static_cast<std::size_t>(layer)];
    counts.routings += static_cast<std::uint64_t>(step.arena.rows) * static_cast<std::uint64_t>(moe_.top_k);
    return options_.mode == pruning_mode::gate_mass ? choose_by_mass(step, counts)
                                                    : choose_by_cache(step, layer, moe, store, counts);
}

result<void> expert_pruning::choose_by_mass(const step_context& step, layer_counts& counts) {
    auto& arena = step.arena;
    const auto count = static_cast<std::size_t>(arena.rows) * static_cast<std::size_t>(moe_.top_k);
    const std::span ids(arena.host_expert_ids.data(), count);
    const std::span weights(host_weights_.data(), count);
    if (auto done = step.queue.download(ids.data(), arena.expert_ids.as<void>(), ids.size_bytes()); !done)
        return done;
    if (auto done = step.queue.download(weights.data(), arena.expert_weights.as<void>(), weights.size_bytes()); !done)
        return done;
    if (auto done = step.queue.synchronize(); !done)
        return done;
    if (auto fine = check_ids(ids); !fine)
        return fine;
    router_ids_.assign(ids.begin(), ids.end());
    const auto left_out =
        keep_gate_mass({static_cast<std::size_t>(moe_.top_k), options_.gate_mass, moe_.normalize}, ids, weights);
    counts.left_out += left_out;
    if (left_out == 0)
        return {};
    return step.queue.upload(arena.expert_weights.as<void>(), weights.data(), weights.size_bytes());
}

/// The router's ranking of more experts than a token takes, on the host.
result<void> expert_pruning::rank_experts(const step_context& step, const moe_layer& moe, std::size_t rows) {
    const moira_router_topk_args rank{static_cast<std::uint32_t>(rows),
                                      0,
                                      step.arena.router_logits.as<float>(),
                                      static_cast<std::uint64_t>(moe_.experts),
                                      moe.choice_bias.as<float>(),
                                      ranked_ids_.as<std::int32_t>(),
                                      ranked_scores_.as<float>()};
    if (auto done = step.queue.launch({{rank_, &rank}}); !done)
        return done;
    const auto bytes = rows * candidates_ * sizeof(float);
    if (auto done = step.queue.download(host_ranked_.data(), ranked_ids_.as<void>(), bytes); !done)
        return done;
    if (auto done = step.queue.download(host_scores_.data(), ranked_scores_.as<void>(), bytes); !done)
        return done;
    if (auto done = step.queue.synchronize(); !done)
        return done;
    return check_ids({host_ranked_.data(), rows * candidates_});
}

result<void> expert_pruning::choose_by_cache(const step_context& step, std::int32_t layer, const moe_layer& moe,
                                             const expert_store& store, layer_counts& counts) {
    auto& arena = step.arena;
    const auto rows = static_cast<std::size_t>(arena.rows);
    const auto top_k = static_cast<std::size_t>(moe_.top_k);
    if (auto done = rank_experts(step, moe, rows); !done)
        return done;
    router_ids_.clear();
    for (std::size_t row = 0; row < rows; ++row)
        router_ids_.insert(router_ids_.end(), host_ranked_.begin() + static_cast<std::ptrdiff_t>(row * candidates_),
                           host_ranked_.begin() + static_cast<std::ptrdiff_t>(row * candidates_ + top_k));
    store.mark_residents(layer, present_);
    const cache_aware_rule rule{top_k,           candidates_,    static_cast<std::size_t>(options_.sacred_ranks),
                                options_.window, moe_.normalize, static_cast<float>(moe_.scale)};
    const std::span weights(host_weights_.data(), rows * top_k);
    counts.replaced += choose_cache_aware(rule, {host_ranked_, host_scores_}, present_,
                                          {arena.host_expert_ids.data(), rows * top_k}, weights);
    return step.queue.upload(arena.expert_weights.as<void>(), weights.data(), weights.size_bytes());
}

std::int32_t expert_pruning::hinted_ranks() const noexcept {
    return options_.mode == pruning_mode::cache_aware ? options_.sacred_ranks : moe_.top_k;
}

pruning_report expert_pruning::report() const {
    pruning_report shown;
    for (std::size_t layer = 0; layer < counts_.size(); ++layer) {
        const pruning_counts counted{counts_[layer].routings, counts_[layer].left_out, counts_[layer].replaced};
        const bool of_model = layer < static_cast<std::size_t>(layers_);
        (of_model ? shown.all : shown.modules) += counted;
        if (of_model)
            shown.layers.push_back(counted);
    }
    return shown;
}

std::string expert_pruning::numerics_id() const {
    return options_.mode == pruning_mode::gate_mass
               ? "prune-mass-" + shown(options_.gate_mass)
               : "prune-cache-" + std::to_string(options_.sacred_ranks) + "-" + shown(options_.window);
}

std::string expert_pruning::lever() const {
    return options_.mode == pruning_mode::gate_mass
               ? "prune.gate_mass=" + shown(options_.gate_mass)
               : "prune.mode=cache_aware prune.sacred_ranks=" + std::to_string(options_.sacred_ranks) +
                     " prune.window=" + shown(options_.window);
}

std::string expert_pruning::notice() const {
    if (options_.mode == pruning_mode::gate_mass)
        return "prune.mode = gate_mass: of every token's experts only the fewest run that carry " +
               shown(options_.gate_mass * 100) + " % of its routing weight; answers differ from the exact ones";
    return "prune.mode = cache_aware: a token's experts behind rank " + std::to_string(options_.sacred_ranks) +
           " give way to ones in memory whose score is at most " + shown(options_.window * 100) +
           " % lower; answers differ from the exact ones, depend on the budget, and need not come out the same again";
}

} // namespace moira
