#include "core/base/checked.hpp"
#include "core/execute/kv_type.hpp"
#include "core/experts/available_memory.hpp"
#include "core/plan/route_hits.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/disk_probe.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/memory_probe.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/open_plugins.hpp"
#include "tools/moira/plan_verification.hpp"

#include <cstdio>

namespace moira {

namespace {

/// A second is a thousand experts on a fast disk and a hundred on a slow one; packing varies less.
constexpr double disk_probe_s = 1.0, packing_probe_s = 0.5;

struct plan_options {
    std::string model, shape, dtype = "bf16", routes, ram, vram;
    std::int32_t layers = 0, context = 0;
    double disk_gb_s = 0, memory_gb_s = 0, vram_gb_s = 0, link_gb_s = 0;
    bool verify = false;
};

/// A model of this machine, with what probing it needs; or only a shape.
struct planned_model {
    std::optional<checkpoint> files;
    model_demands keep, fp8;
    std::string name;
};

/// Threads of the model, its packing and how it reads: what demands nothing but the headers cannot tell.
struct opened_model {
    std::unique_ptr<compute_pool> pool;
    std::unique_ptr<plugin_host> plugins;
    std::unique_ptr<slab_source> source; ///< null: only a shape, or a model that this version cannot run
};

result<planned_model> find_planned(const plan_options& options, const settings& all) {
    planned_model found;
    if (options.shape.empty()) {
        const auto model = find_model(options.model, places_of_models(all));
        if (!model)
            return tl::unexpected(model.error());
        auto files = checkpoint::open(model->folder);
        if (!files)
            return tl::unexpected(files.error());
        found.name = model->name;
        found.keep = demands_of(*files, false);
        found.fp8 = demands_of(*files, true);
        found.files.emplace(std::move(*files));
        return found;
    }
    const auto* known = find_synthetic_shape(options.shape);
    if (!known)
        return fail(errc::invalid_argument,
                    "no shape is called \"" + options.shape.substr(0, 40) + "\": there are " + synthetic_shape_names());
    synthetic_shape shape = *known;
    if (options.layers > 0)
        shape.layers = options.layers;
    const bool stored_fp8 = options.dtype == "fp8";
    auto keep = demands_of(shape, stored_fp8, false), fp8 = demands_of(shape, stored_fp8, true);
    if (!keep || !fp8)
        return tl::unexpected(keep ? fp8.error() : keep.error());
    found.name = shape.name + ", " + std::to_string(shape.layers) + " layers, " + options.dtype;
    found.keep = std::move(*keep);
    found.fp8 = std::move(*fp8);
    return found;
}

result<opened_model> open_planned(const planned_model& model, const settings& all) {
    opened_model opened;
    opened.pool = std::make_unique<compute_pool>(compute_pool::options{
        static_cast<std::uint32_t>(all.compute.threads), static_cast<std::uint32_t>(all.compute.spin_us)});
    auto host = open_plugins(all, all.compute.plugin, *opened.pool);
    if (!host)
        return tl::unexpected(host.error());
    opened.plugins = std::move(*host);
    if (!model.files || !model.keep.refusal.empty() || model.keep.experts_all() == 0)
        return opened;
    auto source = open_direct_experts(*model.files, *opened.plugins, all);
    if (!source)
        return tl::unexpected(source.error());
    opened.source = std::move(*source);
    return opened;
}

/// As this machine's plugins keep keys and values, also for models that are not there.
void set_kv_type(const op_selector& selector, const plan_wish& wish, model_demands& demands) {
    execution_limits limits;
    limits.rows_max = wish.step_rows;
    limits.logits_rows_max = wish.sequences;
    limits.context_max = wish.context;
    limits.page_tokens = wish.page_tokens;
    demands.kv_value_bytes = static_cast<std::uint32_t>(kv_type_bytes(choose_kv_type(selector, demands.shape, limits)));
}

result<std::uint64_t> bytes_of(const std::string& text, const char* option) {
    const auto parsed = parse_byte_size(text);
    if (!parsed)
        return fail(errc::invalid_argument, std::string(option) + ": " + parsed.error().message);
    return parsed->bytes;
}

plan_wish wish_of(const plan_options& options, const settings& all, const model_demands& demands) {
    plan_wish wish;
    const auto wanted = options.context > 0 ? options.context : all.context.max_tokens;
    wish.context = wanted > 0 ? std::min(wanted, demands.shape.context_max) : demands.shape.context_max;
    wish.page_tokens = all.context.page_tokens;
    wish.sequences = all.batch.max_sequences;
    wish.step_rows = all.batch.max_step_tokens;
    wish.kv_budget_bytes = all.context.kv_budget.bytes;
    wish.loader_threads = static_cast<std::uint32_t>(all.experts.loader_threads);
    const auto all_bytes = demands.experts_all() * demands.slot_bytes;
    if (!(all.experts.ram_budget == memory_budget::of_share(1.0)))
        wish.budget_bytes = std::min(all.experts.ram_budget.resolve(all_bytes), all_bytes);
    return wish;
}

/// Memory and its speed; the disk comes later, when it is known whether it matters.
result<planned_machine> describe_machine(const plan_options& options, const plan_answer& answer, compute_pool& pool) {
    planned_machine machine;
    if (!options.ram.empty()) {
        const auto ram = bytes_of(options.ram, "--ram");
        if (!ram)
            return tl::unexpected(ram.error());
        machine.memory_bytes = *ram;
        machine.memory_source = "given";
    } else {
        machine.memory_bytes = available_memory_bytes();
        machine.memory_source = "available now";
        if (machine.memory_bytes == 0)
            return fail(errc::invalid_argument, "the system does not say how much memory is available: give --ram");
    }
    machine.speed.loader_threads = answer.wish.loader_threads;
    machine.speed.sharing_threads = read_device_facts().cpu_cores > pool.size() ? 0 : pool.size();
    machine.speed.memory_gb_s = options.memory_gb_s;
    machine.memory_speed_source = "given";
    if (options.memory_gb_s <= 0) {
        const auto placed = plan_budget(answer.demands, answer.wish, machine.memory_bytes);
        const auto probed = probe_memory(pool, placed.dense_bytes + placed.slots * answer.demands.slot_bytes);
        if (!probed)
            return tl::unexpected(probed.error());
        machine.speed.memory_gb_s = *probed;
        machine.memory_speed_source = "probed with " + std::to_string(pool.size()) + " threads";
    }
    return machine;
}

result<disk_reading> measure_disk(slab_source& source, const plan_answer& answer, probed_way way, double seconds_max,
                                  const std::function<bool()>& interrupted) {
    auto probe = disk_probe::create(source, answer.demands.shape, answer.wish.loader_threads, way);
    if (!probe)
        return tl::unexpected(probe.error());
    return probe->measure(seconds_max, interrupted);
}

/// Reading alone, and packing where there is any: so that each of them can be said.
result<void> probe_disk(slab_source& source, const std::function<bool()>& interrupted, plan_answer& answer) {
    auto& machine = answer.machine;
    const auto read = measure_disk(source, answer, probed_way::read, disk_probe_s, interrupted);
    if (!read)
        return tl::unexpected(read.error());
    machine.speed.disk_gb_s = read->gb_s;
    machine.speed.read_cpu_s = read->read_cpu_s;
    machine.disk_source = "probed, experts read by " + std::to_string(answer.wish.loader_threads) + " threads";
    if (!source.reads_apart())
        return {};
    const auto packed = measure_disk(source, answer, probed_way::read_and_pack, packing_probe_s, interrupted);
    if (!packed)
        return tl::unexpected(packed.error());
    machine.speed.pack_s = packed->pack_cpu_s;
    return {};
}

result<void> describe_disk(const plan_options& options, const opened_model& opened, plan_answer& answer,
                           const std::function<bool()>& interrupted) {
    auto& machine = answer.machine;
    machine.disk_source = "not needed";
    if (options.disk_gb_s > 0) {
        machine.speed.disk_gb_s = options.disk_gb_s;
        machine.disk_source = "given";
        return {};
    }
    const auto placed = plan_budget(answer.demands, answer.wish, machine.memory_bytes);
    if (!placed.placed || placed.slots >= placed.slots_all)
        return {};
    if (!opened.source) {
        machine.disk_source = "unknown: say it with --disk-gb-s";
        return {};
    }
    return probe_disk(*opened.source, interrupted, answer);
}

/// What is known of the routing: a recording, or the range between the worst case and a skewed one.
result<std::pair<hit_source, hit_source>> known_hits(const plan_options& options, const std::string& policy,
                                                     const std::function<bool()>& interrupted, plan_answer& answer) {
    if (options.routes.empty()) {
        answer.hit_source = "from even to skewed routing; --routes tells";
        return std::pair<hit_source, hit_source>{uniform_hits(), skewed_hits()};
    }
    auto trace = read_route_trace(options.routes);
    if (!trace)
        return tl::unexpected(trace.error());
    auto hits = hits_of_routes(std::move(*trace), answer.demands, policy, interrupted);
    if (!hits)
        return tl::unexpected(hits.error());
    answer.hit_source = "replayed from " + options.routes + ", policy " + policy;
    return std::pair{*hits, *hits};
}

result<void> plan_models(const planned_model& model, const std::pair<hit_source, hit_source>& hits, bool fp8_chosen,
                         plan_answer& answer) {
    const auto plan_for = [&](const model_demands& demands) {
        return make_plan(demands, answer.wish, answer.machine.memory_bytes, answer.machine.speed, hits.first,
                         hits.second);
    };
    auto plan = plan_for(answer.demands);
    if (!plan)
        return tl::unexpected(plan.error());
    answer.plan = std::move(*plan);
    if (fp8_chosen || !model.fp8.fp8_helps)
        return {};
    model_demands narrow = model.fp8;
    narrow.kv_value_bytes = answer.demands.kv_value_bytes;
    auto rounded = plan_for(narrow);
    if (!rounded)
        return tl::unexpected(rounded.error());
    if (rounded->budget.placed)
        answer.fp8 = std::move(*rounded);
    return {};
}

result<exit_code> verify(const plan_options& options, const command_context& context, plan_answer& answer,
                         const opened_model& opened, const std::function<bool()>& interrupted) {
    if (!options.verify)
        return exit_done;
    if (!answer.plan.budget.fits || !answer.plan.speed) {
        std::fputs("moira: --verify: there is nothing to run\n", stderr);
        return exit_check_failed;
    }
    std::function<result<double>()> disk_again;
    if (opened.source && options.disk_gb_s <= 0 && answer.machine.speed.disk_gb_s)
        disk_again = [&] {
            return measure_disk(*opened.source, answer, probed_way::read, disk_probe_s, interrupted)
                .map([](const disk_reading& read) { return read.gb_s; });
        };
    auto verified = verify_plan(answer, options.model, context, {*opened.pool, disk_again}, interrupted);
    if (!verified)
        return tl::unexpected(verified.error());
    answer.verified = *verified;
    return verified->holds ? exit_done : exit_check_failed;
}

result<exit_code> run_plan(const plan_options& options, command_context& context) {
    const auto& all = context.settings.values;
    const auto interrupted = watch_interrupt();
    const auto model = find_planned(options, all);
    if (!model)
        return tl::unexpected(model.error());
    const auto opened = open_planned(*model, all);
    if (!opened)
        return tl::unexpected(opened.error());
    const bool fp8_chosen = all.experts.precision == "fp8";
    plan_answer answer;
    answer.model = model->name;
    answer.demands = fp8_chosen ? model->fp8 : model->keep;
    if (opened->source) {
        answer.demands.slot_bytes = round_up(opened->source->slab_bytes(), slot_alignment);
        answer.demands.disk_bytes = opened->source->disk_bytes();
    }
    answer.wish = wish_of(options, all, answer.demands);
    set_kv_type(*opened->plugins, answer.wish, answer.demands);
    if (!options.vram.empty()) {
        const auto vram = bytes_of(options.vram, "--vram");
        if (!vram)
            return tl::unexpected(vram.error());
        answer.device = planned_device{*vram, options.vram_gb_s, options.link_gb_s};
    }
    const auto hits = known_hits(options, all.experts.policy, interrupted, answer);
    if (!hits)
        return tl::unexpected(hits.error());
    auto machine = describe_machine(options, answer, *opened->pool);
    if (!machine)
        return tl::unexpected(machine.error());
    answer.machine = std::move(*machine);
    if (auto done = describe_disk(options, *opened, answer, interrupted); !done)
        return tl::unexpected(done.error());
    if (auto done = plan_models(*model, *hits, fp8_chosen, answer); !done)
        return tl::unexpected(done.error());
    if (answer.device) {
        const auto planned = plan_device(answer.demands, *answer.device, answer.plan.budget,
                                         answer.machine.speed.disk_gb_s, tokens_of_estimate(answer.wish), hits->first);
        if (!planned)
            return tl::unexpected(planned.error());
        answer.on_device = *planned;
    }
    const auto code = verify(options, context, answer, *opened, interrupted);
    if (!code)
        return code;
    const auto printed = context.json ? print_json(plan_json(answer)) : print_text(plan_text(answer, context.colour));
    return printed.map([&] { return *code; });
}

constexpr const char* footer_text =
    "Reads headers only, so that a model may be far larger than the machine. This machine's memory and disk are "
    "probed\n"
    "(about two seconds, and some hundred experts read, with and without packing them); --ram, --disk-gb-s and\n"
    "--memory-gb-s describe another one.\n"
    "Time of a token: dense weights, keys and values, and the chosen experts at the memory's speed; missing experts "
    "at\n"
    "the disk's, while those that are there are computed; packing the last of them; what loaders take from the\n"
    "processors. The hit rate without a recording is a range: from even routing, where the share in memory is the "
    "share\n"
    "that hits, to routing as skewed as gpt-oss-20b's on real text. --routes plays a recording for each budget, as "
    "moira\n"
    "trace replay does with experts.policy; of long ones the first 16,384 tokens, half of them to warm up.\n"
    "--verify loads the model with that budget, generates twice and compares; then also with the estimate for the hit\n"
    "rate, the context and the memory's speed beside that run: computing, waiting for experts, and between steps, "
    "each\n"
    "with its own ratio. Exit code 3: the measured speed is outside the estimate's range by more than a factor of 1.5.";

} // namespace

void add_plan_command(command_line& line) {
    auto options = std::make_shared<plan_options>();
    CLI::App& command =
        line.add(line.root(), "plan", "what of a model fits where and how fast it would run, before loading it",
                 [options](command_context& context) { return run_plan(*options, context); });
    auto* model = command
                      .add_option("-m,--model", options->model,
                                  "a folder, or a name that `moira list` shows; default: moira-demo")
                      ->type_name("MODEL");
    auto* shape = command.add_option("--shape", options->shape, "a shape of `moira synth` instead of a model")
                      ->type_name("SHAPE")
                      ->excludes(model);
    command.add_option("--layers", options->layers, "of the shape; default: all")
        ->check(CLI::Range(1, 1'024))
        ->type_name("L")
        ->needs(shape);
    command.add_option("--dtype", options->dtype, "of the shape: bf16 or fp8")
        ->check(CLI::IsMember({"bf16", "fp8"}))
        ->type_name("DTYPE")
        ->capture_default_str()
        ->needs(shape);
    command.add_option("--ram", options->ram, "memory that the process may use; default: what is available now")
        ->type_name("BYTES");
    auto* vram = command.add_option("--vram", options->vram, "a GPU's memory: what it would hold, over this memory")
                     ->type_name("BYTES");
    command.add_option("--vram-gb-s", options->vram_gb_s, "how fast the GPU's memory is read")
        ->check(CLI::Range(1e-1, 1e5))
        ->type_name("V")
        ->needs(vram);
    command.add_option("--link-gb-s", options->link_gb_s, "how fast experts are copied to the GPU from this memory")
        ->check(CLI::Range(1e-3, 1e4))
        ->type_name("L")
        ->needs(vram);
    command.add_option("--context", options->context, "tokens of one conversation; default: context.max_tokens")
        ->check(CLI::Range(1, 1 << 24))
        ->type_name("TOKENS");
    command.add_option("--disk-gb-s", options->disk_gb_s, "how fast experts are read; default: probed")
        ->check(CLI::Range(1e-3, 1e3))
        ->type_name("X");
    command.add_option("--memory-gb-s", options->memory_gb_s, "how fast memory is read; default: probed")
        ->check(CLI::Range(1e-1, 1e5))
        ->type_name("Y");
    command.add_option("--routes", options->routes, "recorded routing of this model, for its hit rate")
        ->type_name("FILE");
    command.add_flag("--verify", options->verify, "also run the model with that budget and compare")->excludes(shape);
    command.footer(footer_text);
}

} // namespace moira
