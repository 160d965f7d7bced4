#include "actors/request_json.hpp"
#include "config/byte_size.hpp"
#include "core/route/trace_predictor.hpp"
#include "core/route/trace_pruning.hpp"
#include "core/simulate/optimal_replay.hpp"
#include "core/simulate/store_replay.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/eval_text.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <cstdio>

namespace moira {

namespace {

struct replay_command_options {
    std::string file, predictor, geometry, prefetch = "auto";
    std::vector<std::string> policies, cache;
    std::vector<std::int32_t> slots;
    std::vector<std::uint32_t> batches{1};
    std::uint64_t steps = 0, warm_up = 0;
    std::uint32_t prompt_rows = 512, layers_ahead = 1;
    std::int32_t model_layers = 0;
    double memory_gb_s = 0, disk_gb_s = 0, prune_mass = 0;
    bool idle_core = false;
};

/// One walk and one number of slots, and what no policy can beat there.
struct replay_case {
    std::uint32_t batch = 1;
    slot_index slots = 0;
    optimal_counts optimal, optimal_bypass;
};

struct replay_row {
    replay_case place;
    replay_counts counts;
    std::uint64_t unpruned_loads = 0; ///< demand loads of the recording as it is

    /// Of them the share that pruning saves.
    double misses_saved() const {
        return unpruned_loads == 0 ? 0.0
                                   : 1 - static_cast<double>(counts.demand_loads) / static_cast<double>(unpruned_loads);
    }

    /// Loads beyond the least possible, as a share of the experts asked for.
    double regret() const {
        const auto asked = counts.hits + counts.demand_loads;
        const auto loads = static_cast<double>(counts.demand_loads - counts.prefetch_joined + counts.prefetch_loads);
        return asked == 0 ? 0.0
                          : (loads - static_cast<double>(place.optimal_bypass.loads)) / static_cast<double>(asked);
    }
};

class replay_session {
public:
    replay_session(const replay_command_options& options, route_trace trace)
        : options_(options), trace_(std::move(trace)), interrupted_(watch_interrupt()) {}

    result<std::vector<replay_row>> run() {
        if (auto done = prepare(); !done)
            return tl::unexpected(done.error());
        auto rows = play_all(pruned_ ? *pruned_ : trace_);
        if (!rows || !pruned_)
            return rows;
        const auto unpruned = play_all(trace_);
        if (!unpruned)
            return unpruned;
        for (std::size_t row = 0; row < rows->size(); ++row)
            (*rows)[row].unpruned_loads = (*unpruned)[row].counts.demand_loads;
        return rows;
    }

    const route_trace& trace() const noexcept { return trace_; }
    const pruning_counts& pruning() const noexcept { return pruning_; }

private:
    result<std::vector<replay_row>> play_all(const route_trace& trace) {
        std::vector<replay_row> rows;
        for (const auto batch : options_.batches) {
            auto walk = expert_walk::create(trace, walk_of(batch));
            if (!walk)
                return tl::unexpected(walk.error());
            for (const auto slots : slots_) {
                const replay_case place = measure_optimum(*walk, batch, slots);
                for (const auto& policy : options_.policies) {
                    auto counts = play(*walk, place, policy);
                    if (!counts)
                        return tl::unexpected(counts.error());
                    rows.push_back({place, std::move(*counts)});
                }
            }
        }
        return rows;
    }

    result<void> prune() {
        if (options_.prune_mass <= 0)
            return {};
        if (!has_gate_weights(trace_))
            return fail(errc::invalid_argument,
                        options_.file +
                            " holds no gate weights, or equal ones for all experts of a token: nothing says "
                            "which of them --prune-mass would leave out. Record with `moira trace record`");
        pruned_ = trace_;
        pruning_ = prune_trace(*pruned_, options_.prune_mass);
        return {};
    }

    result<void> prepare() {
        if (auto done = prune(); !done)
            return done;
        if (options_.slots.empty() == options_.cache.empty())
            return fail(errc::invalid_argument, "say how much fits: --slots N or --cache 25%");
        slots_ = options_.slots;
        const auto all = std::uint64_t{trace_.layers} * trace_.experts;
        for (const auto& text : options_.cache) {
            const auto budget = parse_memory_budget(text);
            if (!budget)
                return tl::unexpected(budget.error());
            if (budget->kind_of != memory_budget::kind::share)
                return fail(errc::invalid_argument,
                            "--cache is a share of all experts, such as 25%, not '" + text + "'");
            slots_.push_back(static_cast<slot_index>(budget->resolve(all)));
        }
        if (options_.geometry.empty())
            return {};
        auto geometry = read_replay_geometry(options_.geometry, trace_);
        if (!geometry)
            return tl::unexpected(geometry.error());
        if (options_.memory_gb_s > 0)
            geometry->memory_gb_s = options_.memory_gb_s;
        if (options_.disk_gb_s > 0)
            geometry->disk_gb_s = options_.disk_gb_s;
        geometry_ = std::move(*geometry);
        return {};
    }

    walk_options walk_of(std::uint32_t batch) const {
        walk_options walk{.batch = batch, .prompt_rows = options_.prompt_rows};
        walk.repeat = options_.steps > 0;
        if (walk.repeat)
            walk.steps_max = options_.warm_up + options_.steps;
        return walk;
    }

    replay_case measure_optimum(const expert_walk& walk, std::uint32_t batch, slot_index slots) const {
        show_eval_progress("batch " + std::to_string(batch) + ", " + std::to_string(slots) + " slots: Belady");
        const auto most = static_cast<std::uint64_t>(std::max(slots, 0));
        return {batch, slots, replay_optimally(walk, most, false, options_.warm_up),
                replay_optimally(walk, most, true, options_.warm_up)};
    }

    result<replay_counts> play(const expert_walk& walk, const replay_case& place, const std::string& name) const {
        replay_options replay{.slots = place.slots, .model_layers = options_.model_layers};
        replay.prefetch.mode = options_.prefetch == "off"      ? prefetch_mode::off
                               : options_.prefetch == "always" ? prefetch_mode::always
                                                               : prefetch_mode::automatic;
        replay.prefetch.idle_core = options_.idle_core;
        replay.layers_ahead = options_.layers_ahead;
        replay.warm_up_steps = options_.warm_up;
        replay.geometry = geometry_;
        const std::int32_t layers = options_.model_layers > 0 ? options_.model_layers : trace_.layer_numbers.back() + 1;
        auto policy = make_eviction_policy(name, {.layers = layers,
                                                  .experts = static_cast<std::int32_t>(trace_.experts),
                                                  .moe_layers = static_cast<std::int32_t>(trace_.layers)});
        if (!policy)
            return tl::unexpected(policy.error());
        std::unique_ptr<trace_predictor> predictor;
        if (!options_.predictor.empty()) {
            auto made = make_trace_predictor(options_.predictor, walk.trace());
            if (!made)
                return tl::unexpected(made.error());
            predictor = std::move(*made);
        }
        return replay_store(walk, replay, **policy, predictor.get(), [&](double share) {
            char text[128];
            std::snprintf(text, sizeof text, "batch %u, %d slots, %s: %.0f %%", place.batch, place.slots, name.c_str(),
                          100 * share);
            show_eval_progress(text);
            return interrupted_();
        });
    }

    const replay_command_options& options_;
    route_trace trace_;
    std::optional<route_trace> pruned_;
    pruning_counts pruning_;
    std::function<bool()> interrupted_;
    std::vector<slot_index> slots_;
    std::optional<replay_geometry> geometry_;
};

nlohmann::ordered_json layers_json(const replay_row& row) {
    auto layers = row.counts.layers;
    add_regret(layers, row.place.optimal_bypass);
    return expert_layers_json(layers);
}

nlohmann::ordered_json row_json(const replay_row& row, bool weighed, bool pruned) {
    const auto& counts = row.counts;
    const auto timed = [weighed](double value) {
        return weighed ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
    };
    return {{"policy", counts.policy},
            {"batch", row.place.batch},
            {"slots", row.place.slots},
            {"hit_rate", counts.hit_rate()},
            {"hits", counts.hits},
            {"demand_loads", counts.demand_loads},
            {"prefetch_loads", counts.prefetch_loads},
            {"prefetch_useful", counts.prefetch_useful},
            {"prefetch_wasted", counts.prefetch_wasted},
            {"prefetch_joined", counts.prefetch_joined},
            {"bytes", weighed ? nlohmann::ordered_json(counts.bytes) : nlohmann::ordered_json(nullptr)},
            {"stall_s", timed(counts.stall_s)},
            {"compute_s", timed(counts.compute_s)},
            {"link_idle_s", timed(std::max(0.0, counts.seconds - counts.link_s))},
            {"tokens_per_s", timed(counts.tokens_per_s())},
            {"belady_hit_rate", row.place.optimal.hit_rate()},
            {"belady_bypass_hit_rate", row.place.optimal_bypass.hit_rate()},
            {"regret", row.regret()},
            {"hints",
             {{"given", counts.hints.given},
              {"refused", counts.hints.refused},
              {"cancelled", counts.hints.cancelled},
              {"absent", counts.hints.absent},
              {"absent_chosen", counts.hints.absent_chosen},
              {"misses", counts.hints.misses}}},
            {"steps", counts.steps},
            {"tokens", counts.tokens},
            {"waves", counts.waves},
            {"evictions", counts.evictions},
            {"bypass", counts.bypass},
            {"unpruned_demand_loads", pruned ? nlohmann::ordered_json(row.unpruned_loads) : nullptr},
            {"misses_saved", pruned ? nlohmann::ordered_json(row.misses_saved()) : nullptr},
            {"layers", layers_json(row)}};
}

std::string number(const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

std::string rows_text(const std::vector<replay_row>& rows, bool weighed, bool pruned, bool colour) {
    std::vector<std::string> heads{"policy", "batch",   "slots",    "hit rate", "demand loads", "prefetched", "useful",
                                   "read",   "stall s", "tokens/s", "Belady",   "+ bypass",     "regret"};
    if (pruned)
        heads.insert(heads.end(), {"unpruned loads", "saved"});
    text_table table(std::move(heads));
    for (const auto& row : rows) {
        const auto& counts = row.counts;
        std::vector<std::string> cells{counts.policy,
                                       std::to_string(row.place.batch),
                                       std::to_string(row.place.slots),
                                       number("%.2f %%", 100 * counts.hit_rate()),
                                       std::to_string(counts.demand_loads),
                                       std::to_string(counts.prefetch_loads),
                                       std::to_string(counts.prefetch_useful),
                                       weighed ? rounded_bytes(counts.bytes) : "-",
                                       weighed ? number("%.1f", counts.stall_s) : "-",
                                       weighed ? number("%.2f", counts.tokens_per_s()) : "-",
                                       number("%.2f %%", 100 * row.place.optimal.hit_rate()),
                                       number("%.2f %%", 100 * row.place.optimal_bypass.hit_rate()),
                                       number("%.2f %%", 100 * row.regret())};
        if (pruned)
            cells.insert(cells.end(),
                         {std::to_string(row.unpruned_loads), number("%.1f %%", 100 * row.misses_saved())});
        table.add(std::move(cells));
    }
    return table.print(colour);
}

/// Empty where nothing was pruned.
std::string pruning_text(double mass, const pruning_counts& pruning) {
    if (pruning.routings == 0)
        return {};
    return number("gate mass %g", mass) + " skips " + std::to_string(pruning.left_out) + " of " +
           std::to_string(pruning.routings) + " routings, " + number("%.1f %%", 100 * pruning.skipped_share()) +
           "; what it does to the text, moira eval says\n";
}

result<exit_code> run_trace_replay(const replay_command_options& options, command_context& context) {
    auto trace = read_route_trace(options.file);
    if (!trace)
        return tl::unexpected(trace.error());
    replay_session session(options, std::move(*trace));
    const auto rows = session.run();
    end_eval_progress();
    if (!rows)
        return tl::unexpected(rows.error());
    const bool weighed = !options.geometry.empty(), pruned = options.prune_mass > 0;
    const auto& pruning = session.pruning();
    if (!context.json)
        return print_text(pruning_text(options.prune_mass, pruning) + rows_text(*rows, weighed, pruned, context.colour))
            .map([] { return exit_done; });
    auto all = nlohmann::ordered_json::array();
    for (const auto& row : *rows)
        all.push_back(row_json(row, weighed, pruned));
    const auto& shown = session.trace();
    return print_json({{"recording", options.file},
                       {"layers", shown.layers},
                       {"experts", shown.experts},
                       {"top_k", shown.top_k},
                       {"predictor", options.predictor},
                       {"prefetch", options.predictor.empty() ? "off" : options.prefetch},
                       {"pruning", pruned ? nlohmann::ordered_json{{"gate_mass", options.prune_mass},
                                                                   {"routings", pruning.routings},
                                                                   {"left_out", pruning.left_out},
                                                                   {"skipped_share", pruning.skipped_share()}}
                                          : nlohmann::ordered_json(nullptr)},
                       {"rows", std::move(all)}})
        .map([] { return exit_done; });
}

constexpr const char* footer_text =
    "Plays a recording through the classes that hold experts in an engine, without a model: how often an expert would\n"
    "have been in memory, and beside it what a policy that knows the future would have reached (Belady), also when it\n"
    "need not keep what it computes (+ bypass). regret: loads beyond that, as a share of the experts asked for.\n"
    "Sequences are laid side by side: a batch of 4 asks each layer for what four sequences want.\n"
    "--geometry: {\"expert_bytes\": {\"0\": N, ...}, \"dense_bytes\": {\"0\": N, ...}} by layer; with it a time model "
    "says\n"
    "how long the tokens wait: dense part, resident experts while others are read one by one, stall, loaded experts.\n"
    "--predictor: oracle, or scripted:recall=R,precision=P,seed=N; hints go to the policy, and with --prefetch to the\n"
    "link.\n"
    "--steps plays so many steps with every row busy, as moira bench --routes does.\n"
    "--prune-mass plays what pruning by gate mass would have left, and says which share of routings that skips and of\n"
    "the demand loads of the whole recording it saves.";

} // namespace

void add_trace_replay_command(command_line& line, CLI::App& trace) {
    auto options = std::make_shared<replay_command_options>();
    for (const auto name : eviction_policy_names())
        options->policies.emplace_back(name);
    CLI::App& command = line.add(trace, "replay", "how policies and predictors would have done on a recording",
                                 [options](command_context& context) { return run_trace_replay(*options, context); });
    command.add_option("FILE", options->file, "a recording of routing")->required()->type_name("FILE");
    auto* slots = command.add_option("--slots", options->slots, "experts that fit: 192,288")
                      ->delimiter(',')
                      ->check(CLI::Range(1, 1 << 26))
                      ->type_name("N,...");
    command.add_option("--cache", options->cache, "the same as a share of all experts: 25%,50%")
        ->delimiter(',')
        ->excludes(slots)
        ->type_name("SHARE,...");
    command.add_option("--policy", options->policies, "policies to compare; default: all")
        ->delimiter(',')
        ->type_name("NAME,...");
    command.add_option("--batch", options->batches, "sequences side by side: 1,4,16")
        ->delimiter(',')
        ->check(CLI::Range(1, 4096))
        ->type_name("B,...")
        ->capture_default_str();
    command.add_option("--predictor", options->predictor, "who gives hints; default: nobody")->type_name("NAME");
    command.add_option("--prefetch", options->prefetch, "what hints lead to: loads when they pay, never or always")
        ->check(CLI::IsMember({"auto", "off", "always"}))
        ->type_name("auto|off|always")
        ->capture_default_str();
    command.add_option("--layers-ahead", options->layers_ahead, "layers that are hinted at once (oracle and scripted)")
        ->check(CLI::Range(1, 16))
        ->type_name("L")
        ->capture_default_str();
    command
        .add_option("--prune-mass", options->prune_mass,
                    "share of each token's gate weight that stays, as prune.gate_mass; default: nothing is pruned")
        ->check(CLI::Range(0.01, 1.0))
        ->type_name("M");
    command.add_flag("--idle-core", options->idle_core, "loading takes no processor time from computing");
    command.add_option("--geometry", options->geometry, "bytes per expert and layer, for times")->type_name("FILE");
    command
        .add_option("--memory-gb-s", options->memory_gb_s, "speed of computing from memory; default: the file's, or 30")
        ->check(CLI::PositiveNumber)
        ->type_name("X");
    command.add_option("--disk-gb-s", options->disk_gb_s, "speed of loading experts; default: the file's, or 1")
        ->check(CLI::PositiveNumber)
        ->type_name("X");
    command.add_option("--prompt-rows", options->prompt_rows, "prompt tokens of a sequence that one step takes")
        ->check(CLI::Range(1, 1 << 16))
        ->type_name("N")
        ->capture_default_str();
    command.add_option("--steps", options->steps, "how many steps; default: each token once")
        ->check(CLI::Range(1, 1 << 30))
        ->type_name("N");
    command.add_option("--warm-up", options->warm_up, "steps before, which are not counted")
        ->check(CLI::Range(0, 1 << 30))
        ->type_name("N");
    command
        .add_option("--model-layers", options->model_layers,
                    "all layers of the model; default: up to the last recorded")
        ->check(CLI::Range(1, 1 << 16))
        ->type_name("L");
    command.footer(footer_text);
}

} // namespace moira
