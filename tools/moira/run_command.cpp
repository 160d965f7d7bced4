#include "actors/request_json.hpp"
#include "tools/moira/answer_printer.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/input_text.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/run_summary.hpp"
#include "tools/moira/run_verdict.hpp"
#include "tools/moira/sampling_options.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace moira {

namespace {

struct run_options {
    std::string model, prompt, prompt_file, ids;
    bool prompt_given = false, chat = false, stats = false;
    generation_input input;
};

/// The prompt from -p, --prompt-file, --ids or standard input.
result<generation_input> input_of(const run_options& options) {
    auto input = options.input;
    if (!options.ids.empty()) {
        auto ids = parse_token_ids(options.ids);
        if (!ids)
            return tl::unexpected(ids.error());
        input.ids = std::move(*ids);
        return input;
    }
    const bool standard_input = !options.prompt_given && (options.prompt_file.empty() || options.prompt_file == "-");
    if (standard_input && ::isatty(STDIN_FILENO) == 1)
        std::fputs("type the prompt; Ctrl-D on an empty line ends it\n", stderr);
    auto text = options.prompt_given ? result<std::string>(options.prompt)
                                     : read_input_text(options.prompt_file.empty() ? "-" : options.prompt_file);
    if (!text)
        return tl::unexpected(text.error());
    if (options.chat)
        input.messages = std::vector<chat_message>{{"user", *text}};
    else
        input.prompt = *text;
    return input;
}

double percentile(std::vector<float> values, double share) {
    if (values.empty())
        return 0;
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

double per_second(std::int32_t count, double seconds) { return seconds > 0 ? count / seconds : 0; }

double decode_speed(const generation_result& outcome) {
    return per_second(outcome.completion_tokens - 1, outcome.decode_s);
}

std::string verdict_of(const runtime_statistics& statistics, const generation_result& outcome) {
    return verdict(verdict_facts_of(statistics, decode_speed(outcome)));
}

nlohmann::ordered_json run_json(const local_runtime& runtime, const runtime_statistics& statistics,
                                const generation_result& outcome) {
    const auto& identity = runtime.identity();
    return {{"prompt_tokens", outcome.prompt_tokens},
            {"completion_tokens", outcome.completion_tokens},
            {"cached_tokens", outcome.cached_tokens},
            {"token_ids", outcome.token_ids},
            {"text", outcome.text},
            {"finish_reason", finish_reason_name(outcome.reason)},
            {"logits_hash", outcome.logits_hash},
            {"numerics_id", identity.numerics_id},
            {"seed", outcome.seed},
            {"load_s", runtime.load_s()},
            {"ttft_ms", outcome.ttft_s * 1e3},
            {"prefill_tok_s", per_second(outcome.prompt_tokens - outcome.cached_tokens, outcome.prefill_s)},
            {"decode_tok_s", decode_speed(outcome)},
            {"itl_ms", {{"p50", percentile(outcome.itl_ms, 0.5)}, {"p99", percentile(outcome.itl_ms, 0.99)}}},
            {"overhead_us", {{"p50", statistics.overhead_us_p50}, {"p99", statistics.overhead_us_p99}}},
            {"experts", experts_report_json(statistics.experts)},
            {"speculation", speculation_json(identity, outcome.speculation)},
            {"plugins", identity.plugins},
            {"lossy", identity.lossy},
            {"verdict", verdict_of(statistics, outcome)}};
}

result<exit_code> run_run(const run_options& options, command_context& context) {
    auto input = input_of(options);
    if (!input)
        return tl::unexpected(input.error());
    auto runtime = load_runtime(options.model, context);
    if (!runtime)
        return tl::unexpected(runtime.error());
    local_runtime::event_function show;
    answer_printer printer;
    if (!context.json)
        show = [&printer](const output_event& event) { printer.show(event); };
    const auto outcome = (*runtime)->run(std::move(*input), show, [&printer, interrupted = watch_interrupt()] {
        return interrupted() || printer.lost();
    });
    if (outcome.failure)
        return tl::unexpected(*outcome.failure);
    if (printer.lost())
        return fail(errc::io_error, "standard output cannot be written: is the pipe closed or the disk full?");
    const auto statistics = (*runtime)->statistics().value_or(runtime_statistics{});
    if (context.json) {
        if (auto printed = print_json(run_json(**runtime, statistics, outcome)); !printed)
            return tl::unexpected(printed.error());
    } else {
        const auto summary = run_summary(statistics, outcome, (*runtime)->identity().context_max);
        const bool colour = ::isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
        std::fprintf(stderr, "\n%s\nverdict: %s\n%s", summary.c_str(), verdict_of(statistics, outcome).c_str(),
                     options.stats ? layer_table(statistics.experts, colour).c_str() : "");
    }
    return outcome.reason == finish_reason::cancelled ? exit_interrupted : exit_done;
}

}  // namespace

void add_run_command(command_line& line) {
    auto options = std::make_shared<run_options>();
    CLI::App& command = line.add(line.root(), "run", "generate text: it streams to standard output, a summary to standard error",
                                 [options](command_context& context) { return run_run(*options, context); });
    add_model_option(command, options->model);
    auto* prompt = command.add_option("-p,--prompt", options->prompt, "the text; without it standard input is read");
    prompt->each([options](const std::string&) { options->prompt_given = true; });
    auto* file = command.add_option("--prompt-file", options->prompt_file, "read the prompt from a file")->excludes(prompt)->type_name("FILE");
    command.add_option("--ids", options->ids, "token ids instead of text: \"0 1 2\"")->excludes(prompt)->excludes(file);
    command.add_flag("--chat", options->chat, "put the prompt into the model's chat template");
    command.add_flag("--stats", options->stats, "also show what each layer's experts did; --json always has it");
    add_sampling_options(command, options->input);
}

}  // namespace moira
