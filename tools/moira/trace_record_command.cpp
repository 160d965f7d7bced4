#include "core/evaluate/route_recorder.hpp"
#include "core/text/tokenizer.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/eval_text.hpp"
#include "tools/moira/input_text.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/model_lookup.hpp"

#include <algorithm>

namespace moira {

namespace {

struct trace_record_options {
    std::string model, prompt, prompt_file, text, file;
    std::int32_t generate = 128, window = 0;
    bool hidden = false;
};

/// One text to run: prompts are continued, windows of a text are not.
struct recorded_text {
    std::vector<token_id> ids;
    bool prompt = false;
};

/// One prompt per line; empty lines are left out.
std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin < text.size();) {
        const auto end = std::min(text.find('\n', begin), text.size());
        auto line = text.substr(begin, end - begin);
        if (!line.empty() && line.back() == '\r')
            line.pop_back();
        if (!line.empty())
            lines.push_back(std::move(line));
        begin = end + 1;
    }
    return lines;
}

result<std::vector<recorded_text>> read_prompts(const trace_record_options& options, const tokenizer& words) {
    std::vector<std::string> prompts{options.prompt};
    if (!options.prompt_file.empty()) {
        const auto text = read_input_text(options.prompt_file);
        if (!text)
            return tl::unexpected(text.error());
        prompts = lines_of(*text);
    }
    std::vector<recorded_text> made;
    for (const auto& prompt : prompts) {
        auto ids = words.encode(prompt, tokenizer::special::add);
        if (!ids)
            return tl::unexpected(ids.error());
        made.push_back({std::move(*ids), true});
    }
    return made;
}

/// The text in pieces that fill a window each; as if the model had said it itself.
result<std::vector<recorded_text>> read_windows(const trace_record_options& options, command_context& context,
                                                std::int32_t context_max) {
    eval_text_options wanted{options.model, options.text, options.window, 0};
    auto text = read_scored_text(wanted, context);
    if (!text)
        return tl::unexpected(text.error());
    if (auto cut = cut_into_windows(*text, wanted, context_max); !cut)
        return tl::unexpected(cut.error());
    std::vector<recorded_text> made;
    const auto length = static_cast<std::size_t>(wanted.window);
    for (std::size_t begin = 0; begin < text->ids.size(); begin += length) {
        const auto from = text->ids.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto count = std::min(length, text->ids.size() - begin);
        made.push_back({{from, from + static_cast<std::ptrdiff_t>(count)}, false});
    }
    return made;
}

result<std::vector<recorded_text>> read_texts(const trace_record_options& options, command_context& context,
                                              std::int32_t context_max) {
    if (!options.text.empty())
        return read_windows(options, context, context_max);
    const auto model = find_model(options.model, places_of_models(context.settings.values));
    if (!model)
        return tl::unexpected(model.error());
    const auto words = tokenizer::load(model->folder);
    if (!words)
        return tl::unexpected(words.error());
    return read_prompts(options, *words);
}

/// Runs all texts; Ctrl-C ends after the step that runs, and what was recorded is written.
result<bool> record_all(route_recorder& recorder, const std::vector<recorded_text>& texts, std::int32_t generate) {
    const auto interrupted = watch_interrupt();
    for (std::size_t index = 0; index < texts.size(); ++index) {
        if (index > 0 && interrupted())
            return true;
        show_eval_progress("text " + std::to_string(index + 1) + " of " + std::to_string(texts.size()));
        const auto& [ids, prompt] = texts[index];
        const auto prompt_tokens = prompt ? static_cast<std::uint32_t>(ids.size()) : 0U;
        if (auto done = recorder.record(ids, prompt_tokens, prompt ? generate : 0, interrupted); !done)
            return fail(done.error().code, "text " + std::to_string(index + 1) + ": " + done.error().message);
    }
    return interrupted();
}

result<exit_code> run_trace_record(const trace_record_options& options, command_context& context) {
    const auto ways = static_cast<int>(!options.prompt.empty()) + static_cast<int>(!options.prompt_file.empty()) +
                      static_cast<int>(!options.text.empty());
    if (ways != 1)
        return fail(errc::invalid_argument, "say what to run: one of --prompt, --prompt-file and --text");
    auto room = load_model(options.model, context);
    if (!room)
        return tl::unexpected(room.error());
    const auto texts = read_texts(options, context, room->model->limits().context_max);
    if (!texts)
        return tl::unexpected(texts.error());
    auto recorder = route_recorder::create(*room->model, options.hidden);
    if (!recorder)
        return tl::unexpected(recorder.error());
    const auto interrupted = record_all(*recorder, *texts, options.generate);
    end_eval_progress();
    if (!interrupted)
        return tl::unexpected(interrupted.error());
    const auto& trace = recorder->trace();
    if (auto written = write_route_trace(trace, options.file); !written)
        return tl::unexpected(written.error());
    const auto printed = context.json
                             ? print_json({{"path", options.file},
                                           {"layers", trace.layers},
                                           {"experts", trace.experts},
                                           {"top_k", trace.top_k},
                                           {"hidden", trace.hidden},
                                           {"sequences", trace.sequences.size()},
                                           {"tokens", trace.tokens()},
                                           {"interrupted", *interrupted},
                                           {"numerics_id", room->model->numerics_id()}})
                             : print_text(options.file + ": " + std::to_string(trace.tokens()) + " tokens in " +
                                          std::to_string(trace.sequences.size()) + " sequences, " +
                                          std::to_string(trace.layers) + " layers of " + std::to_string(trace.experts) +
                                          " experts, top " + std::to_string(trace.top_k) + "\n");
    if (!printed)
        return tl::unexpected(printed.error());
    return *interrupted ? exit_interrupted : exit_done;
}

constexpr const char* footer_text =
    "A prompt is run and continued greedily; both parts are recorded and told apart. --text runs a text in windows as\n"
    "if the model had said it: many tokens in little time. Layers of multi-token prediction do not count.\n"
    "Ctrl-C: what was run is written, exit code 130.";

} // namespace

void add_trace_record_command(command_line& line, CLI::App& trace) {
    auto options = std::make_shared<trace_record_options>();
    CLI::App& command = line.add(trace, "record", "run texts and write which experts the model chose",
                                 [options](command_context& context) { return run_trace_record(*options, context); });
    add_model_option(command, options->model);
    command.add_option("-p,--prompt", options->prompt, "one prompt")->type_name("TEXT");
    command.add_option("--prompt-file", options->prompt_file, "one prompt per line; - for standard input")
        ->type_name("FILE");
    command.add_option("--text", options->text, "a text to run as it is; - for standard input")->type_name("FILE");
    command.add_option("-n,--max-tokens", options->generate, "tokens to generate behind each prompt")
        ->check(CLI::Range(0, 1 << 20))
        ->type_name("N")
        ->capture_default_str();
    command
        .add_option("--window", options->window,
                    "tokens of --text that the model sees at once; default: 512, or its "
                    "context if that is less")
        ->check(CLI::Range(2, 1 << 20))
        ->type_name("TOKENS");
    command.add_flag(
        "--hidden", options->hidden,
        "also what every router saw, for `moira predictor train`: hidden size x 2 bytes per layer and token");
    command.add_option("-o,--output", options->file, "the file to write")->required()->type_name("FILE");
    command.footer(footer_text);
}

} // namespace moira
