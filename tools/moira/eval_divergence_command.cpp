#include "core/evaluate/divergence.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/eval_text.hpp"
#include "tools/moira/load_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

namespace moira {

namespace {

struct divergence_options {
    eval_text_options text;
    std::vector<std::string> against;
};

/// "key=value key=value" into its assignments.
std::vector<std::string> words_of(const std::vector<std::string>& texts) {
    std::vector<std::string> words;
    for (const auto& text : texts) {
        std::istringstream stream(text);
        for (std::string word; stream >> word;)
            words.push_back(word);
    }
    return words;
}

/// The settings of the reference: the same file, --against in place of --set. Errors: those of --set.
result<command_context> reference_context(const divergence_options& options, const command_context& context) {
    const auto assignments = words_of(options.against);
    if (assignments.empty())
        return fail(errc::invalid_argument,
                    "--against is empty: expected \"key=value\", more of them with blanks between");
    auto settings = load_settings(context.config_file, assignments);
    if (!settings)
        return fail(settings.error().code, "--against: " + settings.error().message);
    auto reference = context;
    reference.settings = std::move(*settings);
    return reference;
}

struct compared_rooms {
    model_room reference, tested;
};

/// Share of everything that a token reads of the model, by bytes of the checkpoint, that `skipped` of its routed
/// experts are.
double share_of_all_parameters(const engine& model, double skipped) {
    const auto sizes = summarize(model.model());
    const auto routed = static_cast<double>(sizes.bytes_per_expert) * model.shape().moe_layers() * sizes.top_k;
    return skipped * routed / static_cast<double>(sizes.bytes_active_per_token);
}

/// What ran less than the router chose; null without pruning.
nlohmann::ordered_json pruning_json(const engine& tested) {
    const auto pruned = tested.expert_statistics().pruning;
    if (!pruned)
        return nullptr;
    auto by_layer = nlohmann::ordered_json::array();
    for (const auto& layer : pruned->layers)
        by_layer.push_back(layer.routings == 0 ? nlohmann::ordered_json(nullptr)
                                               : nlohmann::ordered_json(layer.skipped_share()));
    const auto skipped = pruned->all.skipped_share();
    return {{"routings", pruned->all.routings},
            {"left_out", pruned->all.left_out},
            {"replaced", pruned->all.replaced},
            {"skipped_share", skipped},
            {"skipped_share_of_active", share_of_all_parameters(tested, skipped)},
            {"skipped_share_by_layer", std::move(by_layer)}};
}

std::string pruning_text(const engine& tested) {
    const auto pruned = tested.expert_statistics().pruning;
    if (!pruned)
        return {};
    const auto skipped = pruned->all.skipped_share();
    const auto replaced = static_cast<double>(pruned->all.replaced) /
                          static_cast<double>(std::max<std::uint64_t>(1, pruned->all.routings));
    char text[256];
    std::snprintf(
        text, sizeof text,
        "routed experts        %.2f %% left out, %.2f %% replaced; %.2f %% of all active parameters skipped\n",
        100 * skipped, 100 * replaced, 100 * share_of_all_parameters(tested, skipped));
    return text;
}

nlohmann::ordered_json demand_json(const engine& model) {
    const auto counted = model.expert_statistics();
    return {{"hits", counted.hits}, {"demand_loads", counted.demand_loads}, {"demand_bytes", counted.demand_bytes}};
}

nlohmann::ordered_json divergence_json(const eval_text_options& options, const text_divergence& found,
                                       const compared_rooms& rooms) {
    const auto range = [&found](std::size_t quantity) {
        const auto interval = found.sums.bootstrap(quantity);
        return nlohmann::ordered_json{interval.low, interval.high};
    };
    return {{"tokens", found.sums.tokens()},
            {"mean_kl", found.mean_kl()},
            {"top1_agreement", found.agreement()},
            {"nll_delta", found.delta()},
            {"ci95",
             {{"mean_kl", range(text_divergence::kl)},
              {"top1_agreement", range(text_divergence::top1_agreement)},
              {"nll_delta", range(text_divergence::nll_delta)}}},
            {"perplexity", std::exp(found.nll_tested())},
            {"perplexity_against", std::exp(found.nll_tested() - found.delta())},
            {"perplexity_ratio", std::exp(found.delta())},
            {"window", options.window},
            {"stride", options.stride},
            {"windows", found.windows},
            {"pruning", pruning_json(*rooms.tested.model)},
            {"experts", demand_json(*rooms.tested.model)},
            {"experts_against", demand_json(*rooms.reference.model)},
            {"lossy", rooms.tested.model->lossy()},
            {"interrupted", found.interrupted},
            {"numerics_id", rooms.tested.model->numerics_id()},
            {"numerics_id_against", rooms.reference.model->numerics_id()}};
}

std::string divergence_text(const text_divergence& found, std::size_t windows, const compared_rooms& rooms) {
    const auto kl = found.sums.bootstrap(text_divergence::kl);
    const auto agreement = found.sums.bootstrap(text_divergence::top1_agreement);
    const auto delta = found.sums.bootstrap(text_divergence::nll_delta);
    char text[768];
    std::snprintf(text, sizeof text,
                  "mean KL divergence    %.4g nats  (95 %%: %.4g to %.4g)\n"
                  "same likeliest token  %.3f %%  (95 %%: %.3f to %.3f)\n"
                  "nats per token        %+.3g  (95 %%: %+.3g to %+.3g)\n"
                  "perplexity            %.4f against %.4f: %+.4f %%\n"
                  "%llu tokens scored in %zu of %zu windows, %s against %s\n",
                  found.mean_kl(), kl.low, kl.high, 100 * found.agreement(), 100 * agreement.low, 100 * agreement.high,
                  found.delta(), delta.low, delta.high, std::exp(found.nll_tested()),
                  std::exp(found.nll_tested() - found.delta()), 100 * std::expm1(found.delta()),
                  static_cast<unsigned long long>(found.sums.tokens()), found.windows, windows,
                  rooms.tested.model->numerics_id().c_str(), rooms.reference.model->numerics_id().c_str());
    return text + pruning_text(*rooms.tested.model);
}

result<compared_rooms> load_rooms(const std::string& model, const command_context& reference,
                                  const command_context& tested) {
    compared_rooms rooms;
    auto first = load_model(model, reference);
    if (!first)
        return fail(first.error().code, "--against: " + first.error().message);
    rooms.reference = std::move(*first);
    auto second = load_model(model, tested);
    if (!second)
        return tl::unexpected(second.error());
    rooms.tested = std::move(*second);
    return rooms;
}

result<exit_code> run_divergence(divergence_options options, command_context& context) {
    const auto reference = reference_context(options, context);
    if (!reference)
        return tl::unexpected(reference.error());
    auto text = read_scored_text(options.text, context);
    if (!text)
        return tl::unexpected(text.error());
    const auto rooms = load_rooms(options.text.model, *reference, context);
    if (!rooms)
        return tl::unexpected(rooms.error());
    const auto context_max =
        std::min(rooms->reference.model->limits().context_max, rooms->tested.model->limits().context_max);
    if (auto cut = cut_into_windows(*text, options.text, context_max); !cut)
        return tl::unexpected(cut.error());
    const auto progress = [&text, interrupted = watch_interrupt()](const text_divergence& so_far) {
        char line[128];
        std::snprintf(line, sizeof line, "window %zu of %zu, mean KL so far %.4g, same token %.2f %%", so_far.windows,
                      text->windows.size(), so_far.mean_kl(), 100 * so_far.agreement());
        show_eval_progress(line);
        return interrupted();
    };
    const auto found = measure_divergence(*rooms->reference.model, *rooms->tested.model, *text, progress);
    end_eval_progress();
    if (!found)
        return tl::unexpected(found.error());
    const auto printed = context.json ? print_json(divergence_json(options.text, *found, *rooms))
                                      : print_text(divergence_text(*found, text->windows.size(), *rooms));
    if (!printed)
        return tl::unexpected(printed.error());
    return found->interrupted ? exit_interrupted : exit_done;
}

constexpr const char* footer_text =
    "The model is loaded twice: with the settings in force (--config, --set), and once more with those of --config "
    "and\n"
    "--against alone, which is the reference. mean_kl: the Kullback-Leibler divergence of the first from the "
    "reference,\n"
    "sum p (log p - log q) with p of the reference, in nats, over the whole vocabulary. nll_delta: by how much a "
    "token\n"
    "is less likely than under the reference, in nats; perplexity_ratio is its exponential. Text and windows as for\n"
    "`moira eval perplexity`. Intervals come from a bootstrap over stretches of the text.\n"
    "pruning: what prune.mode left out or replaced, and the share of a token's routed experts and of everything it\n"
    "reads (by bytes) that was skipped.\n"
    "For example, what the fastest kernels cost against float32:  --against compute.plugin=cpu_reference\n"
    "Ctrl-C: the windows that are complete are shown, exit code 130.";

} // namespace

void add_eval_divergence_command(command_line& line, CLI::App& eval) {
    auto options = std::make_shared<divergence_options>();
    CLI::App& command = line.add(eval, "divergence", "how far two settings part on the same text",
                                 [options](command_context& context) { return run_divergence(*options, context); });
    add_eval_text_options(command, options->text);
    command
        .add_option("--against", options->against, "the reference's settings: \"key=value key=value\"; may be repeated")
        ->required()
        ->type_name("\"KEY=VALUE ...\"")
        ->allow_extra_args(false);
    command.footer(footer_text);
}

} // namespace moira
