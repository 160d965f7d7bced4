#include "core/model/checkpoint.hpp"
#include "tools/moira/bench_report.hpp"
#include "tools/moira/bench_run.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/context_bench.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/memory_probe.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/op_bench_report.hpp"
#include "tools/moira/route_bench_command.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <unistd.h>

namespace moira {

namespace {

struct bench_options {
    std::string model, batches, routes, predictor, contexts;
    // Half of the bundled model's context and less: a prompt of some chunks' weight, enough steps for a steady median.
    std::int32_t prompt_tokens = 128, gen_tokens = 64;
    std::int32_t threads = 0, repeat = 3;
    std::int32_t warm_up = 32; // with --routes: enough that slots fill and old experts begin to leave
    std::uint64_t probe_mib = memory_probe::buffer_bytes_default >> 20;
    bool ops = false, settle = false;
};

result<std::vector<std::int32_t>> check_options(const bench_options& options) {
    if (options.ops && !options.routes.empty())
        return fail(errc::invalid_argument, "--ops and --routes are measured apart: give one of them");
    if (options.routes.empty() && !options.predictor.empty())
        return fail(errc::invalid_argument, "--predictor replays a recording: give it with --routes");
    if (options.settle && options.predictor.empty())
        return fail(errc::invalid_argument, "--settle waits for what hints lead to: give --predictor");
    const char* usual = options.ops ? "1,2,4,16" : "1,4,16"; // two rows: what verifying a draft costs
    return parse_batches(options.batches.empty() ? usual : options.batches);
}

/// The settings under which is measured: what was asked for, and room for the largest batch.
result<void> prepare_settings(settings& all, const bench_options& options, std::int32_t batch_max) {
    if (batch_max > all.batch.max_step_tokens)
        return fail(errc::invalid_argument, "a batch of " + std::to_string(batch_max) + " does not fit a step of " +
                                                std::to_string(all.batch.max_step_tokens) +
                                                " rows: raise batch.max_step_tokens");
    if (options.threads > 0)
        all.compute.threads = options.threads;
    all.batch.max_sequences = std::max(all.batch.max_sequences, batch_max);
    all.server.max_queue = std::max(all.server.max_queue, batch_max);
    // The same prompts come again in every repeat: each must be computed.
    all.context.prefix_reuse = false;
    return {};
}

result<bench_model> describe_weights(const settings& all, const std::string& wanted) {
    const auto found = find_model(wanted, places_of_models(all));
    if (!found)
        return tl::unexpected(found.error());
    const auto opened = checkpoint::open(found->folder);
    if (!opened)
        return tl::unexpected(opened.error());
    const auto& shape = opened->shape();
    bench_model model;
    model.experts = shape.moe.experts;
    model.top_k = shape.moe.top_k;
    model.moe_layers = shape.moe_layers();
    model.weights.vocabulary = shape.vocabulary;
    if (const auto* table = opened->find(weight_names(shape).embedding))
        model.weights.embedding = table->bytes;
    return model;
}

/// Whether all sequences fit together, so that none has to wait or be computed twice.
result<void> check_fit(local_runtime& runtime, const bench_row_options& row, std::int32_t page_tokens) {
    const std::int64_t tokens = std::int64_t{row.prompt_tokens} + row.gen_tokens;
    if (tokens > runtime.identity().context_max)
        return fail(errc::prompt_too_long,
                    std::to_string(row.prompt_tokens) + " prompt tokens and " + std::to_string(row.gen_tokens) +
                        " to generate do not fit the context of " + std::to_string(runtime.identity().context_max) +
                        ": lower --prompt-tokens or --gen-tokens");
    const auto now = runtime.statistics();
    if (!now)
        return fail(errc::internal, "the runtime has ended");
    const std::int64_t pages = row.batch * ((tokens + page_tokens - 1) / page_tokens);
    if (pages > now->batch.pages_total)
        return fail(errc::invalid_argument, "a batch of " + std::to_string(row.batch) + " needs " +
                                                std::to_string(pages) + " KV pages, context.kv_budget gives " +
                                                std::to_string(now->batch.pages_total) + ": raise it or lower --batch");
    return {};
}

/// A line that overwrites itself, on a terminal only.
bench_progress progress_line() {
    if (::isatty(STDERR_FILENO) == 0)
        return {};
    return [](const std::string& what) { std::fprintf(stderr, "\r\033[K%s", what.c_str()); };
}

/// All that lives through a call.
struct bench_call {
    const bench_options& options;
    command_context& context;
    compute_pool& pool;
    bench_model model;
    std::function<bool()> interrupted;
    bench_progress progress;
    bench_setting setting = {};
    std::optional<memory_probe> probe = {};
};

/// The first runtime is loaded before the probe takes memory: the model comes first.
result<void> prepare_probe(bench_call& call) {
    if (call.probe)
        return {};
    const auto wanted = call.options.probe_mib << 20;
    auto made = memory_probe::create(call.pool, wanted);
    if (!made)
        return tl::unexpected(made.error());
    call.probe.emplace(std::move(*made));
    call.setting.probe_bytes = call.probe->bytes();
    if (call.probe->bytes() < wanted)
        std::fprintf(stderr, "note: memory is short: the probe reads %s instead of %s, and caches may help it\n",
                     rounded_bytes(call.probe->bytes()).c_str(), rounded_bytes(wanted).c_str());
    return {};
}

/// A runtime of its own for each row: its counters of overhead and experts then speak of this batch alone.
result<bench_row> run_row(bench_call& call, std::int32_t batch) {
    const bench_row_options row{batch, call.options.prompt_tokens, call.options.gen_tokens, call.options.repeat};
    // Only the first one says what there is to note: the others are loaded in the same way.
    command_context quiet = call.context;
    quiet.json = quiet.json || call.probe.has_value();
    auto runtime = load_runtime(call.options.model, quiet);
    if (!runtime)
        return tl::unexpected(runtime.error());
    if (auto fits = check_fit(**runtime, row, call.context.settings.values.context.page_tokens); !fits)
        return tl::unexpected(fits.error());
    if (auto ready = prepare_probe(call); !ready)
        return tl::unexpected(ready.error());
    call.setting.model = (*runtime)->identity().model;
    call.model.weights.dense = (*runtime)->dense_bytes();
    call.model.weights.expert = (*runtime)->slab_bytes();
    return measure_row(**runtime, *call.probe, call.model, row, call.interrupted, call.progress);
}

/// Single ops, with a model of their own: the runtimes of the rows are gone.
result<op_bench> run_ops(bench_call& call, const std::vector<std::int32_t>& batches) {
    command_context quiet = call.context;
    quiet.json = true; // the first row has said what there is to note
    auto room = load_model(call.options.model, quiet);
    if (!room)
        return tl::unexpected(room.error());
    op_bench_options wanted;
    wanted.decode_rows = batches;
    wanted.context = call.options.prompt_tokens;
    wanted.repeat = call.options.repeat;
    return measure_ops(*room, *call.probe, wanted, call.interrupted, call.progress);
}

result<exit_code> report_rows(const bench_call& call, const std::vector<bench_row>& rows,
                              const std::optional<op_bench>& ops = {}) {
    auto array = nlohmann::ordered_json::array();
    for (const auto& row : rows) {
        array.push_back(bench_row_json(call.setting, row));
        if (ops)
            array.back()["ops"] = op_bench_json(*ops, row);
    }
    const auto& context = call.context;
    const auto printed = context.json ? print_json(array)
                                      : print_text(bench_table(call.setting, rows, context.colour) +
                                                   (ops ? op_bench_text(*ops, context.colour) : ""));
    if (!printed)
        return tl::unexpected(printed.error());
    if (!context.json)
        for (const auto& row : rows)
            std::fprintf(stderr, "batch %d: %s\n", row.options.batch, bench_row_verdict(row).c_str());
    for (const auto& row : rows)
        if (!row.hashes_equal) {
            std::fprintf(stderr, "moira: batch %d: logits differed between repeats of the same prompts\n",
                         row.options.batch);
            return exit_check_failed;
        }
    return exit_done;
}

/// Steps behind long contexts, alone in the engine.
result<exit_code> run_contexts(bench_call& call) {
    const auto contexts = parse_contexts(call.options.contexts);
    if (!contexts)
        return tl::unexpected(contexts.error());
    auto room = load_model(call.options.model, call.context);
    if (!room)
        return tl::unexpected(room.error());
    if (auto ready = prepare_probe(call); !ready)
        return tl::unexpected(ready.error());
    const auto found =
        measure_contexts(*room, *call.probe, *contexts, call.options.repeat, call.interrupted, call.progress);
    if (call.progress)
        call.progress("");
    if (!found)
        return tl::unexpected(found.error());
    const auto name = room->model->model().folder().filename().string();
    const auto printed = call.context.json ? print_json(context_bench_json(name, call.setting.threads, *found))
                                           : print_text(context_bench_text(*found, call.context.colour));
    return printed.map([] { return exit_done; });
}

result<exit_code> run_bench(const bench_options& options, command_context& context) {
    const auto batches = check_options(options);
    if (!batches)
        return tl::unexpected(batches.error());
    auto& all = context.settings.values;
    if (auto ready = prepare_settings(all, options, *std::max_element(batches->begin(), batches->end())); !ready)
        return tl::unexpected(ready.error());
    if (!options.routes.empty())
        return run_route_bench({options.model, options.routes, options.predictor, *batches, options.warm_up,
                                options.gen_tokens, options.repeat, options.probe_mib, options.settle},
                               context);
    auto model = describe_weights(all, options.model);
    if (!model)
        return tl::unexpected(model.error());
    // As many threads as the runtime's own team, made the same way.
    compute_pool pool(
        {static_cast<std::uint32_t>(all.compute.threads), static_cast<std::uint32_t>(all.compute.spin_us)});
    bench_call call{options, context, pool, *model, watch_interrupt(), progress_line()};
    call.setting.threads = pool.size();
    if (!options.contexts.empty())
        return run_contexts(call);
    std::vector<bench_row> rows;
    for (const auto batch : *batches) {
        auto row = run_row(call, batch);
        if (call.progress)
            call.progress("");
        if (!row && row.error().code == errc::cancelled && !rows.empty())
            return report_rows(call, rows).map([](exit_code) { return exit_interrupted; });
        if (!row)
            return tl::unexpected(row.error());
        rows.push_back(std::move(*row));
    }
    if (!options.ops)
        return report_rows(call, rows);
    const auto ops = run_ops(call, *batches);
    if (call.progress)
        call.progress("");
    if (!ops && ops.error().code == errc::cancelled)
        return report_rows(call, rows).map([](exit_code) { return exit_interrupted; });
    if (!ops)
        return tl::unexpected(ops.error());
    return report_rows(call, rows, *ops);
}

constexpr const char* footer_text =
    "Each row: a run that is not counted, then the measured ones, with the memory probe before and after each.\n"
    "Prompts are fixed random ids, one per sequence; prefix reuse is off, so that every repeat computes them.\n"
    "prefill: prompt tokens of the batch until the last first token. decode: while all sequences generate.\n"
    "bytes per token: dense weights (one row of the embedding) and the distinct experts of a step, shared by its "
    "rows.\n"
    "share: these bytes per second against the probe. It may exceed 1 where the weights fit into the caches.\n"
    "logits hash: of one sequence its own; of several the xxHash of their hashes in order.\n"
    "--ops: steps of the engine alone, half of them watched op by op, with other tokens and so other experts each "
    "time, "
    "in\n"
    "rounds between two looks at the memory probe and at the multipliers' peak. Bytes are those of weights and of "
    "cached "
    "keys\n"
    "and values, each once per step; of other ops what they read and write. Medians of steps, shares paired by round.\n"
    "--context: decoding steps of one row behind contexts of these lengths, op by op as with --ops, and nothing else. "
    "The\n"
    "cache is filled with random numbers: what stands in it does not change the time.\n"
    "--routes: the engine alone, --gen-tokens steps per repeat, --prompt-tokens unused. Bounds: what a step reads of "
    "memory and\n"
    "what it must load without prefetching, by the probes of memory and disk beside it, one after the other (demand) "
    "or "
    "at\n"
    "once (overlap). COMPUTE and STALL split the time of steps; LINK IDLE: no expert was being read.\n"
    "--json has beside the engine's counters the simulator's, with hints at the speeds of these very steps, and by "
    "which "
    "share\n"
    "they differ. --settle takes the disk's speed out of it (tokens/s then say nothing; experts.prefetch=always).\n"
    "Exit code 3: the hashes of repeats differ. Ctrl-C: the rows that are complete are shown, exit code 130.";

} // namespace

void add_bench_command(command_line& line) {
    auto options = std::make_shared<bench_options>();
    CLI::App& command =
        line.add(line.root(), "bench", "measure prefill and decode speed against the memory's bandwidth",
                 [options](command_context& context) { return run_bench(*options, context); });
    constexpr int tokens_max = 1 << 20; // more than any context that is served
    add_model_option(command, options->model);
    command.add_option("--prompt-tokens", options->prompt_tokens, "tokens of each prompt")
        ->check(CLI::Range(1, tokens_max))
        ->type_name("P")
        ->capture_default_str();
    command.add_option("--gen-tokens", options->gen_tokens, "tokens that each sequence generates; at least 2")
        ->check(CLI::Range(2, tokens_max))
        ->type_name("G")
        ->capture_default_str();
    command
        .add_option("--batch", options->batches,
                    "numbers of sequences, a row of the result each; default: 1,4,16, with --ops 1,2,4,16")
        ->type_name("B,B,...");
    command.add_option("--threads", options->threads, "as compute.threads; 0: what the settings say")
        ->check(CLI::Range(0, 1'024))
        ->type_name("T");
    command.add_option("--repeat", options->repeat, "measured runs of each row; medians are reported")
        ->check(CLI::Range(1, 1'000))
        ->type_name("R")
        ->capture_default_str();
    command.add_option("--probe-mib", options->probe_mib, "buffer of the memory probe; well above the caches")
        ->check(CLI::Range(1, 1 << 20))
        ->type_name("MIB")
        ->capture_default_str();
    command.add_flag("--ops", options->ops, "also time every op, in steps of as many rows and of a prompt of 512");
    command.add_option("--context", options->contexts, "decoding behind contexts of these lengths, and nothing else")
        ->type_name("N,N,...");
    command
        .add_option("--routes", options->routes,
                    "a recording whose experts are used in the place of the routers' choice; decoding only")
        ->type_name("FILE");
    command
        .add_option("--predictor", options->predictor,
                    "with --routes: what hints are made of; scripted:recall=0.85,precision=0.85,seed=1 knows the "
                    "recording and errs as often")
        ->type_name("NAME");
    command.add_flag(
        "--settle", options->settle,
        "with --predictor: steps wait for all that hints lead to, so that the disk's speed decides nothing");
    command.add_option("--warm-up", options->warm_up, "with --routes: steps before those that are measured")
        ->check(CLI::Range(0, tokens_max))
        ->type_name("W")
        ->capture_default_str();
    command.footer(footer_text);
    add_bench_serve_command(line, command);
}

} // namespace moira
