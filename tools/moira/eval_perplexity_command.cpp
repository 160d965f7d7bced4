#include "core/evaluate/perplexity.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/eval_text.hpp"
#include "tools/moira/load_model.hpp"

#include <cmath>
#include <cstdio>

namespace moira {

namespace {

nlohmann::ordered_json bits_json(const text_likelihood& found) {
    const auto bits = found.bits_per_byte();
    return bits ? nlohmann::ordered_json(*bits) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json perplexity_json(const eval_text_options& options, const text_likelihood& found,
                                       const std::string& numerics_id) {
    const auto range = found.nll.bootstrap(0);
    return {{"tokens", found.nll.tokens()},
            {"nll_per_token", found.nll_per_token()},
            {"perplexity", found.perplexity()},
            {"bits_per_byte", bits_json(found)},
            {"ci95",
             {{"nll_per_token", {range.low, range.high}}, {"perplexity", {std::exp(range.low), std::exp(range.high)}}}},
            {"bytes", found.bytes},
            {"window", options.window},
            {"stride", options.stride},
            {"windows", found.windows},
            {"interrupted", found.interrupted},
            {"numerics_id", numerics_id}};
}

std::string perplexity_text(const text_likelihood& found, std::size_t windows, const std::string& numerics_id) {
    const auto range = found.nll.bootstrap(0);
    char text[512];
    std::snprintf(text, sizeof text,
                  "perplexity     %.4f  (95 %%: %.4f to %.4f)\n"
                  "nats per token %.5f\n"
                  "bits per byte  %.5f\n"
                  "%llu tokens scored in %zu of %zu windows, %s\n",
                  found.perplexity(), std::exp(range.low), std::exp(range.high), found.nll_per_token(),
                  found.bits_per_byte().value_or(std::nan("")), static_cast<unsigned long long>(found.nll.tokens()),
                  found.windows, windows, numerics_id.c_str());
    return text;
}

result<exit_code> run_perplexity(eval_text_options options, command_context& context) {
    auto text = read_scored_text(options, context);
    if (!text)
        return tl::unexpected(text.error());
    auto room = load_model(options.model, context);
    if (!room)
        return tl::unexpected(room.error());
    if (auto cut = cut_into_windows(*text, options, room->model->limits().context_max); !cut)
        return tl::unexpected(cut.error());
    const auto progress = [&text, interrupted = watch_interrupt()](const text_likelihood& so_far) {
        char line[128];
        std::snprintf(line, sizeof line, "window %zu of %zu, perplexity so far %.4f", so_far.windows,
                      text->windows.size(), so_far.perplexity());
        show_eval_progress(line);
        return interrupted();
    };
    const auto found = measure_likelihood(*room->model, *text, progress);
    end_eval_progress();
    if (!found)
        return tl::unexpected(found.error());
    const auto numerics_id = room->model->numerics_id();
    const auto printed = context.json ? print_json(perplexity_json(options, *found, numerics_id))
                                      : print_text(perplexity_text(*found, text->windows.size(), numerics_id));
    if (!printed)
        return tl::unexpected(printed.error());
    return found->interrupted ? exit_interrupted : exit_done;
}

constexpr const char* footer_text =
    "The text is tokenised as a prompt is (with the model's BOS, where it has one, once at the beginning) and cut "
    "into\n"
    "windows, each of which starts with an empty context. A token is scored once, from the tokens before it in its\n"
    "window; the first token of a window is not, unless a window before holds it. A smaller stride gives each scored\n"
    "token at least window - stride tokens to go by, and costs more.\n"
    "bits per byte: over the UTF-8 bytes of the scored tokens. The interval comes from a bootstrap over stretches of\n"
    "the text, and so speaks of other texts of its kind. Ctrl-C: the windows that are complete are shown, exit code "
    "130.";

} // namespace

void add_eval_perplexity_command(command_line& line, CLI::App& eval) {
    auto options = std::make_shared<eval_text_options>();
    CLI::App& command = line.add(eval, "perplexity", "how well the model expects a text: its negative log likelihood",
                                 [options](command_context& context) { return run_perplexity(*options, context); });
    add_eval_text_options(command, *options);
    command.footer(footer_text);
}

} // namespace moira
