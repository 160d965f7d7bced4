#include "actors/load_client.hpp"
#include "actors/told_statistics.hpp"
#include "core/base/read_only_file.hpp"
#include "tools/moira/bench_numbers.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/input_text.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/load_report.hpp"
#include "tools/moira/run_verdict.hpp"
#include "tools/moira/workload_trace.hpp"

#include <cstdio>
#include <unistd.h>

namespace moira {

namespace {

struct serve_load_options {
    std::string target, workload, prompt, prompt_file, key_file, model;
    std::size_t clients = 8, requests = 0;
    std::int32_t max_tokens = 0, prompt_tokens = 128, context = 0, timeout_s = 120;
    double speedup = 1, temperature = 0;
    std::uint64_t seed = 0;
    bool stream = true, stop_at_end_token = false;
};

constexpr std::int32_t max_tokens_default = 64;
constexpr std::size_t requests_default = 100;

/// Ids that every vocabulary has, for a server that does not tell its size.
constexpr std::int32_t vocabulary_assumed = 256;

/// The first line of the file: as a server's own file of keys.
result<std::string> read_key(const std::string& file) {
    constexpr std::uint64_t key_file_bytes_max = 1 << 20;
    if (file.empty())
        return std::string();
    auto text = read_text_file(file, key_file_bytes_max);
    if (!text)
        return tl::unexpected(text.error());
    auto key = text->substr(0, text->find_first_of("\r\n"));
    if (key.empty())
        return fail(errc::invalid_config, file + ": the first line holds no key");
    return key;
}

result<std::vector<workload_row>> read_workload(const std::string& file) {
    const auto text = read_text_file(file, workload_bytes_max);
    if (!text)
        return tl::unexpected(text.error());
    auto rows = parse_workload(*text);
    if (!rows)
        return fail(rows.error().code, file + ": " + rows.error().message);
    return rows;
}

/// All that the requests are made from.
struct load_sources {
    const serve_load_options& options;
    std::string prompt;
    std::vector<workload_row> rows;
    std::int32_t vocabulary = vocabulary_assumed;
};

load_plan::entry make_entry(const load_sources& from, std::size_t index) {
    const auto& options = from.options;
    load_plan::entry entry;
    auto& request = entry.request;
    request.stream = options.stream;
    request.stop_at_end_token = options.stop_at_end_token;
    request.temperature = options.temperature;
    request.seed = options.seed + index;
    request.max_tokens = options.max_tokens > 0 ? options.max_tokens : max_tokens_default;
    auto prompt_tokens = options.prompt_tokens;
    if (!from.rows.empty()) {
        const auto& row = from.rows[index];
        entry.due = row.arrival;
        request.max_tokens = row.answer_tokens;
        prompt_tokens = row.prompt_tokens;
    }
    if (!from.prompt.empty())
        request.prompt = from.prompt;
    else
        request.ids = bench_prompt(options.seed + index, prompt_tokens, from.vocabulary);
    return entry;
}

/// The settings of the connection. Errors: those of the target and of the key's file.
result<load_options> connection_options(const serve_load_options& options) {
    load_options all;
    auto target = parse_load_target(options.target);
    if (!target)
        return tl::unexpected(target.error());
    auto key = read_key(options.key_file);
    if (!key)
        return tl::unexpected(key.error());
    all.protocol = {std::move(*target), std::move(*key), options.model};
    all.clients = options.clients;
    all.silence_timeout = std::chrono::seconds(options.timeout_s);
    return all;
}

/// Reads prompt and workload. Errors: those of the files.
result<load_sources> read_sources(const serve_load_options& options) {
    load_sources from{options, options.prompt, {}};
    if (!options.prompt_file.empty()) {
        auto text = read_input_text(options.prompt_file);
        if (!text)
            return tl::unexpected(text.error());
        from.prompt = std::move(*text);
    }
    if (options.workload.empty())
        return from;
    auto rows = read_workload(options.workload);
    if (!rows)
        return tl::unexpected(rows.error());
    from.rows = std::move(*rows);
    if (options.requests != 0 && options.requests < from.rows.size())
        from.rows.resize(options.requests);
    return from;
}

load_progress_function progress_line() {
    if (::isatty(STDERR_FILENO) == 0)
        return {};
    return [](const load_outcome& so_far, std::size_t in_flight) {
        std::fprintf(stderr, "\r\033[K%llu completed, %llu failed, %zu in flight",
                     static_cast<unsigned long long>(so_far.completed), static_cast<unsigned long long>(so_far.failed),
                     in_flight);
    };
}

result<exit_code> report(const load_setting& setting, const load_outcome& outcome, const command_context& context) {
    const auto printed = context.json ? print_json(load_report_json(setting, outcome))
                                      : print_text(load_report_text(setting, outcome, context.colour));
    if (!printed)
        return tl::unexpected(printed.error());
    if (outcome.interrupted)
        return exit_interrupted;
    return outcome.failed == 0 ? exit_done : exit_failed;
}

/// What the server told and the options do not say otherwise. Returns how many rows of a workload were cut.
std::size_t fit_to_server(load_sources& from, load_options& connection, const load_server_facts& facts) {
    if (connection.protocol.model.empty())
        connection.protocol.model = facts.model;
    from.vocabulary = facts.vocabulary.value_or(vocabulary_assumed);
    const auto& options = from.options;
    const auto context = options.context > 0 ? options.context : facts.context_max.value_or(0);
    return fit_workload(from.rows, {options.speedup, context, options.max_tokens});
}

/// Of the time of the load; empty where the server tells no counters, or is gone.
std::string verdict_of_server(const load_options& connection, const std::shared_ptr<const runtime_statistics>& before,
                              const load_outcome& outcome, const std::function<bool()>& interrupted) {
    if (!before || outcome.interrupted)
        return {};
    const auto after = ask_load_statistics(connection, interrupted);
    return after ? verdict(verdict_facts_of(statistics_between(*before, *after), tokens_per_second(outcome)))
                 : std::string();
}

result<exit_code> run_bench_serve(const serve_load_options& options, command_context& context) {
    auto connection = connection_options(options);
    if (!connection)
        return tl::unexpected(connection.error());
    auto from = read_sources(options);
    if (!from)
        return tl::unexpected(from.error());
    const auto interrupted = watch_interrupt();
    const auto facts = ask_load_target(*connection, interrupted);
    if (!facts)
        return tl::unexpected(facts.error());
    const auto before = ask_load_statistics(*connection, interrupted);
    load_setting setting;
    setting.rows_cut = fit_to_server(*from, *connection, *facts);
    load_plan plan;
    plan.requests = !from->rows.empty()     ? from->rows.size()
                    : options.requests != 0 ? options.requests
                                            : requests_default;
    plan.make = [&from](std::size_t index) { return make_entry(*from, index); };
    const auto progress = progress_line();
    const auto outcome = run_load(*connection, plan, interrupted, progress);
    if (progress)
        std::fputs("\r\033[K", stderr);
    if (!outcome)
        return tl::unexpected(outcome.error());
    setting.target = options.target;
    setting.model = connection->protocol.model;
    setting.clients = options.clients;
    setting.requests = plan.requests;
    setting.stream = options.stream;
    setting.verdict = verdict_of_server(*connection, before, *outcome, interrupted);
    return report(setting, *outcome, context);
}

constexpr const char* footer_text =
    "Each client sends one request at a time. Without --workload the next one follows at once. With it requests are "
    "due at\n"
    "the recorded moments; one that finds no free client waits, and that counts in its times and is shown as late.\n"
    "Prompts are fixed random ids, another one for each request, unless --prompt gives a text; a server that keeps "
    "the\n"
    "prefix of that text will answer faster. Lengths of a workload are cut to the context that the server names.\n"
    "first token: from sending (workload: from the due moment), connecting included. tokens/s: all that came, over "
    "the\n"
    "whole time. Exit code 1: a request failed. Ctrl-C: what was measured so far is shown, exit code 130.";

void add_request_options(CLI::App& command, serve_load_options& options) {
    constexpr int tokens_max = 1 << 20; // more than any context that is served
    auto* prompt = command.add_option("--prompt", options.prompt, "the text of every request")->type_name("TEXT");
    auto* file = command.add_option("--prompt-file", options.prompt_file, "read it from a file")
                     ->excludes(prompt)
                     ->type_name("FILE");
    command
        .add_option("--prompt-tokens", options.prompt_tokens,
                    "tokens of each prompt where neither text nor workload says")
        ->check(CLI::Range(1, tokens_max))
        ->excludes(prompt)
        ->excludes(file)
        ->type_name("P")
        ->capture_default_str();
    command
        .add_option("--max-tokens", options.max_tokens, "tokens of each answer; with a workload: at most; default: 64")
        ->check(CLI::Range(1, tokens_max))
        ->type_name("G");
    command.add_flag("--stop-at-eos", options.stop_at_end_token, "let answers end at the model's end token");
    command.add_option("--temperature", options.temperature, "0: greedy")
        ->check(CLI::Range(0.0, 100.0))
        ->type_name("T");
    command.add_option("--seed", options.seed, "of prompts and sampling; the same seed sends the same requests")
        ->type_name("S");
    command.add_flag("--stream,!--no-stream", options.stream,
                     "read tokens as they come (default), or answers in one piece");
}

} // namespace

void add_bench_serve_command(command_line& line, CLI::App& bench) {
    auto options = std::make_shared<serve_load_options>();
    CLI::App& command = line.add(bench, "serve", "load a running server and measure its answers",
                                 [options](command_context& context) { return run_bench_serve(*options, context); });
    command
        .add_option("--target", options->target, "tcp://HOST:PORT (lines) or http://HOST[:PORT] (OpenAI's completions)")
        ->required()
        ->type_name("URL");
    command.add_option("--clients", options->clients, "connections, and so the most requests in flight")
        ->check(CLI::Range(std::size_t{1}, load_clients_max))
        ->type_name("C")
        ->capture_default_str();
    command.add_option("--requests", options->requests, "how many; default: 100, or all rows of the workload")
        ->check(CLI::Range(std::size_t{1}, load_requests_max))
        ->type_name("N");
    command.add_option("--workload", options->workload, "CSV with TIMESTAMP, ContextTokens, GeneratedTokens to replay")
        ->type_name("FILE");
    command.add_option("--speedup", options->speedup, "replay this many times as fast")
        ->check(CLI::Range(0.001, 1e6))
        ->type_name("X")
        ->capture_default_str();
    command.add_option("--context", options->context, "cut a workload to this context; default: what the server says")
        ->check(CLI::Range(2, 1 << 24))
        ->type_name("TOKENS");
    command.add_option("--api-key-file", options->key_file, "file whose first line is the key to show")
        ->type_name("FILE");
    command.add_option("--model", options->model, "HTTP: the model that requests name; default: the server's first")
        ->type_name("NAME");
    command.add_option("--timeout-s", options->timeout_s, "a request without one byte for so long has failed")
        ->check(CLI::Range(1, 86'400))
        ->type_name("S")
        ->capture_default_str();
    add_request_options(command, *options);
    command.footer(footer_text);
}

} // namespace moira
