#include "core/execute/compute_pool.hpp"
#include "core/route/heads_training.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/predictor_judging.hpp"

#include <atomic>
#include <chrono>
#include <utility>

namespace moira {

namespace {

struct predictor_options {
    std::string recording, model, file;
    std::vector<std::string> evaluate;
    double cache_share = 0.25;
    std::int32_t epochs = 2;
};

/// Recordings of fewer sequences are cut inside one: the rest of it stands for another.
constexpr std::size_t sequences_least = 5;

/// The last fifth is kept for judging, whole sequences where there are enough.
constexpr std::uint32_t held_out_part = 5;

void cut_sequence(const route_trace& trace, route_sequence& kept, route_sequence& rest) {
    const auto tokens = kept.tokens - kept.tokens / held_out_part;
    const auto cut = [&](auto& from, auto& to, std::size_t per_token) {
        const auto place = from.begin() + static_cast<std::ptrdiff_t>(std::min(from.size(), tokens * per_token));
        to.assign(place, from.end());
        from.erase(place, from.end());
    };
    const auto choices = std::size_t{trace.layers} * trace.top_k;
    cut(kept.ids, rest.ids, choices);
    cut(kept.weights, rest.weights, choices);
    cut(kept.hidden, rest.hidden, std::size_t{trace.layers} * trace.hidden);
    rest.tokens = kept.tokens - tokens;
    kept.tokens = tokens;
    kept.prompt_tokens = std::min(kept.prompt_tokens, tokens);
}

/// What is trained on stays in `trace`; the rest is returned.
route_trace hold_out(route_trace& trace) {
    route_trace rest{trace.layers, trace.experts, trace.top_k, trace.hidden, trace.layer_numbers, {}};
    auto& all = trace.sequences;
    if (all.size() < sequences_least) {
        for (auto& sequence : all)
            cut_sequence(trace, sequence, rest.sequences.emplace_back());
        return rest;
    }
    const auto first = all.end() - static_cast<std::ptrdiff_t>(all.size() / held_out_part);
    rest.sequences.assign(std::make_move_iterator(first), std::make_move_iterator(all.end()));
    all.erase(first, all.end());
    return rest;
}

/// Spreads calls over the runtime's own compute threads.
for_each_function on_pool(compute_pool& pool) {
    return [&pool](std::size_t count, const std::function<void(std::size_t)>& body) {
        struct work {
            const std::function<void(std::size_t)>& body;
            std::size_t count;
            std::atomic<std::size_t> next{0};
        } shared{body, count};
        pool.run(
            0,
            [](void* argument, const moira_team_member*) {
                auto& all = *static_cast<work*>(argument);
                for (auto index = all.next++; index < all.count; index = all.next++)
                    all.body(index);
            },
            &shared);
    };
}

result<trained_predictor> train_history(const route_trace& trace) {
    auto model =
        history_model::create({static_cast<std::int32_t>(trace.layers), static_cast<std::int32_t>(trace.experts),
                               static_cast<std::int32_t>(trace.top_k)});
    if (!model)
        return tl::unexpected(model.error());
    trained_predictor made;
    const std::shared_ptr<history_model> learning = std::move(*model);
    const auto predictor = make_history_predictor(trace, learning);
    for (std::uint32_t sequence = 0; sequence < trace.sequences.size(); ++sequence)
        for (std::uint32_t token = 0; token < trace.sequences[sequence].tokens; ++token)
            for (std::uint32_t layer = 0; layer < trace.layers; ++layer)
                predictor->observe({sequence, token}, layer);
    made.history = learning;
    return made;
}

result<trained_predictor> train(const route_trace& trace, const predictor_options& options,
                                const command_context& context) {
    if (trace.hidden == 0)
        return train_history(trace);
    compute_pool::options threads;
    threads.threads = static_cast<std::uint32_t>(context.settings.values.compute.threads);
    compute_pool pool(threads);
    heads_training_options wanted;
    wanted.epochs = options.epochs;
    wanted.for_each = on_pool(pool);
    auto heads = train_heads(trace, wanted);
    if (!heads)
        return tl::unexpected(heads.error());
    trained_predictor made;
    made.heads = std::move(*heads);
    return made;
}

const predictor_judgement* find_judged(const std::vector<predictor_judgement>& all, std::string_view name) {
    for (const auto& each : all)
        if (each.name == name)
            return &each;
    return nullptr;
}

nlohmann::ordered_json all_json(const std::vector<predictor_judgement>& judged) {
    auto list = nlohmann::ordered_json::array();
    for (const auto& each : judged)
        list.push_back(judgement_json(each));
    return list;
}

/// One recording and what was made of it.
struct judged_recording {
    std::string file;
    std::vector<predictor_judgement> judged;
};

result<std::vector<judged_recording>> judge_all(const route_trace& held_out, const predictor_options& options,
                                                const recorded_model& model, const trained_predictor& trained) {
    judgement_options how;
    how.cache_share = options.cache_share;
    auto own = judge_predictors(held_out, model, &trained, how);
    if (!own)
        return tl::unexpected(own.error());
    std::vector<judged_recording> all{{options.recording, std::move(*own)}};
    for (const auto& file : options.evaluate) {
        auto other = read_route_trace(file);
        if (!other)
            return tl::unexpected(other.error());
        if (auto fine = check_subject(options.file, trained.subject, subject_of(*other)); !fine)
            return fail(errc::invalid_argument, file + ": " + fine.error().message);
        if (trained.heads && other->hidden == 0)
            return fail(errc::invalid_argument, file + " holds no states: record it with --hidden");
        auto judged = judge_predictors(*other, model, &trained, how);
        if (!judged)
            return tl::unexpected(judged.error());
        all.push_back({file, std::move(*judged)});
    }
    return all;
}

result<exit_code> print_training(const predictor_options& options, const trained_predictor& trained,
                                 const std::vector<judged_recording>& all, double train_s,
                                 const command_context& context) {
    const auto& own = all.front().judged;
    // The router itself is what heads have to beat; where it cannot be asked, and for histories, the previous token.
    const auto* gate = trained.heads ? find_judged(own, "gate") : nullptr;
    const auto& before = gate ? *gate : *find_judged(own, "previous");
    const auto& after = *find_judged(own, trained.kind());
    if (context.json) {
        auto others = nlohmann::ordered_json::array();
        for (std::size_t index = 1; index < all.size(); ++index)
            others.push_back({{"file", all[index].file}, {"predictors", all_json(all[index].judged)}});
        return print_json({{"path", options.file},
                           {"kind", trained.kind()},
                           {"model", trained.subject.model},
                           {"rank", trained.heads ? nlohmann::ordered_json(trained.heads->rank)
                                                  : nlohmann::ordered_json(nullptr)},
                           {"trained_tokens", trained.trained_tokens},
                           {"held_out_tokens", own.front().tokens},
                           {"train_s", train_s},
                           {"cache_share", options.cache_share},
                           {"before", before.name},
                           {"recall_before", before.recall(0)},
                           {"recall_after", after.recall(0)},
                           {"predictors", all_json(own)},
                           {"evaluated", std::move(others)}})
            .map([] { return exit_done; });
    }
    auto text = options.file + ": " + trained.kind() +
                (trained.heads ? " of rank " + std::to_string(trained.heads->rank)
                               : std::string(", for the recording holds no states")) +
                ", trained on " + std::to_string(trained.trained_tokens) + " tokens in " +
                std::to_string(static_cast<int>(train_s + 0.5)) + " s\n";
    for (const auto& each : all)
        text += "\n" + each.file + (&each == &all.front() ? ", what was held out of training\n" : "\n") +
                judgement_text(each.judged, context.colour);
    return print_text(text).map([] { return exit_done; });
}

result<exit_code> run_train(const predictor_options& options, command_context& context) {
    auto trace = read_route_trace(options.recording);
    if (!trace)
        return tl::unexpected(trace.error());
    auto model = find_recorded_model(options.model, *trace, context);
    if (!model)
        return tl::unexpected(model.error());
    const auto held_out = hold_out(*trace);
    const auto begin = std::chrono::steady_clock::now();
    auto trained = train(*trace, options, context);
    if (!trained)
        return tl::unexpected(trained.error());
    const double train_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    trained->subject = model->subject;
    trained->trained_tokens = trace->tokens();
    if (auto written = write_predictor(options.file, *trained); !written)
        return tl::unexpected(written.error());
    auto all = judge_all(held_out, options, *model, *trained);
    if (!all)
        return tl::unexpected(all.error());
    return print_training(options, *trained, *all, train_s, context);
}

result<exit_code> run_evaluate(const predictor_options& options, command_context& context) {
    auto trace = read_route_trace(options.recording);
    if (!trace)
        return tl::unexpected(trace.error());
    auto model = find_recorded_model(options.model, *trace, context);
    if (!model)
        return tl::unexpected(model.error());
    std::optional<trained_predictor> trained;
    if (!options.file.empty()) {
        auto read = read_predictor(options.file);
        if (!read)
            return tl::unexpected(read.error());
        if (auto fits = check_subject(options.file, read->subject, model->subject); !fits)
            return tl::unexpected(fits.error());
        trained = std::move(*read);
    }
    judgement_options how;
    how.cache_share = options.cache_share;
    auto judged = judge_predictors(*trace, *model, trained ? &*trained : nullptr, how);
    if (!judged)
        return tl::unexpected(judged.error());
    const auto printed = context.json ? print_json({{"file", options.recording},
                                                    {"cache_share", options.cache_share},
                                                    {"predictors", all_json(*judged)}})
                                      : print_text(judgement_text(*judged, context.colour));
    return printed.map([] { return exit_done; });
}

constexpr const char* footer_text =
    "recall: share of the chosen experts among the first k, 1.5 k and 2 k predicted. misses covered: of what an LRU\n"
    "cache of --cache of all experts misses. precision among absent: of the predicted experts that the cache does not\n"
    "hold. The control predicts what was chosen and must recall everything. Layer 0 is left\n"
    "out, and layer 1 for those that look two layers ahead.\n"
    "gate: the next layer's own router, early; gate2: two layers early. heads read what a router saw (recordings made\n"
    "with --hidden), history what this token and the one before chose.";

void add_shared_options(CLI::App& command, predictor_options& options) {
    command.add_option("recording", options.recording, "recorded routing: F.routes")->required()->type_name("FILE");
    add_model_option(command, options.model);
    command.add_option("--cache", options.cache_share, "share of all experts that the LRU cache beside holds")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command.footer(footer_text);
}

} // namespace

void add_predictor_command(command_line& line) {
    CLI::App& group = line.add(line.root(), "predictor", "train predictors of experts, and judge them", {});
    auto options = std::make_shared<predictor_options>();
    CLI::App& training =
        line.add(group, "train", "train heads on recorded states, or without states a model of history",
                 [options](command_context& context) { return run_train(*options, context); });
    add_shared_options(training, *options);
    training.add_option("-o,--output", options->file, "the file to write")->required()->type_name("FILE");
    training.add_option("--evaluate", options->evaluate, "also judge on this recording")->type_name("FILE");
    training.add_option("--epochs", options->epochs, "passes over the recording, for heads")
        ->check(CLI::Range(1, 100))
        ->capture_default_str();

    auto judged = std::make_shared<predictor_options>();
    CLI::App& evaluating = line.add(group, "evaluate", "judge every predictor on a recording",
                                    [judged](command_context& context) { return run_evaluate(*judged, context); });
    add_shared_options(evaluating, *judged);
    evaluating.add_option("--predictor", judged->file, "a file of `moira predictor train`")->type_name("FILE");
}

} // namespace moira
