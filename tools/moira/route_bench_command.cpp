#include "tools/moira/route_bench_command.hpp"

#include "tools/moira/load_model.hpp"
#include "tools/moira/memory_probe.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/open_plugins.hpp"
#include "tools/moira/route_bench_report.hpp"

#include <cstdio>
#include <memory>
#include <optional>
#include <unistd.h>

namespace moira {

namespace {

bench_progress progress_line() {
    if (::isatty(STDERR_FILENO) == 0)
        return {};
    return [](const std::string& what) { std::fprintf(stderr, "\r\033[K%s", what.c_str()); };
}

/// Bytes that every step reads, whatever is chosen.
weight_bytes weights_of(const engine& model) {
    weight_bytes weights;
    weights.vocabulary = model.shape().vocabulary;
    weights.dense = model.dense_bytes();
    weights.expert = model.slab_bytes();
    if (const auto* table = model.model().find(weight_names(model.shape()).embedding))
        weights.embedding = table->bytes;
    return weights;
}

/// The experts of the model on the disk. Its memory is taken before the model takes what is left.
struct probed_experts {
    std::unique_ptr<checkpoint> model;
    std::unique_ptr<plugin_host> plugins;
    std::unique_ptr<slab_source> source;
    std::optional<disk_probe> probe;
};

/// All that lives through a call.
struct route_bench_call {
    const route_bench_request& request;
    command_context& context;
    compute_pool& pool;
    probed_experts disk;
    std::function<bool()> interrupted;
    bench_setting setting = {};
};

result<probed_experts> open_disk_probe(const settings& all, const std::string& wanted, compute_pool& pool) {
    const auto found = find_model(wanted, places_of_models(all));
    if (!found)
        return tl::unexpected(found.error());
    auto opened = checkpoint::open(found->folder);
    if (!opened)
        return tl::unexpected(opened.error());
    auto plugins = open_plugins(all, all.compute.plugin, pool);
    if (!plugins)
        return tl::unexpected(plugins.error());
    probed_experts disk{std::make_unique<checkpoint>(std::move(*opened)), std::move(*plugins), {}, {}};
    auto source = open_direct_experts(*disk.model, *disk.plugins, all);
    if (!source)
        return tl::unexpected(source.error());
    disk.source = std::move(*source);
    auto probe = disk_probe::create(*disk.source, disk.model->shape(),
                                    static_cast<std::uint32_t>(all.experts.loader_threads), probed_way::read);
    if (!probe)
        return tl::unexpected(probe.error());
    disk.probe.emplace(std::move(*probe));
    return disk;
}

/// With memory that is given back at once.
result<double> probe_memory(route_bench_call& call) {
    auto memory = memory_probe::create(call.pool, call.request.probe_mib << 20);
    if (!memory)
        return tl::unexpected(memory.error());
    call.setting.probe_bytes = memory->bytes();
    return memory->measure().gb_s;
}

/// A model of its own, so that the row begins with an empty store.
result<route_bench_row> run_model(route_bench_call& call, const route_bench_options& options,
                                  const route_trace& trace) {
    auto room = load_model(call.request.model, call.context);
    if (!room)
        return tl::unexpected(room.error());
    call.setting.model = room->model->model().folder().filename().string();
    call.setting.threads = room->pool->size();
    const auto progress = progress_line();
    auto row =
        measure_routes(*room, trace, *call.disk.probe, weights_of(*room->model), options, call.interrupted, progress);
    if (progress)
        progress("");
    return row;
}

result<route_bench_row> run_row(route_bench_call& call, const route_bench_options& options, const route_trace& trace) {
    const auto before = probe_memory(call);
    if (!before)
        return tl::unexpected(before.error());
    auto row = run_model(call, options, trace);
    if (!row)
        return row;
    const auto after = probe_memory(call);
    if (!after)
        return tl::unexpected(after.error());
    row->memory_gb_s = {*before, *after};
    return row;
}

} // namespace

result<exit_code> run_route_bench(const route_bench_request& request, command_context& context) {
    auto& all = context.settings.values;
    route_bench_options options;
    options.warm_up = request.warm_up;
    options.gen_tokens = request.gen_tokens;
    options.repeat = request.repeat;
    options.predictor = request.predictor;
    options.settle = request.settle;
    const auto trace = read_route_trace(request.routes);
    if (!trace)
        return tl::unexpected(trace.error());
    compute_pool pool(
        {static_cast<std::uint32_t>(all.compute.threads), static_cast<std::uint32_t>(all.compute.spin_us)});
    options.prefetch = prefetch_policy_of(all, pool.size());
    auto disk = open_disk_probe(all, request.model, pool);
    if (!disk)
        return tl::unexpected(disk.error());
    route_bench_call call{request, context, pool, std::move(*disk), watch_interrupt()};
    std::vector<route_bench_row> rows;
    for (const auto batch : request.batches) {
        options.batch = batch;
        auto row = run_row(call, options, *trace);
        if (!row && (row.error().code != errc::cancelled || rows.empty()))
            return tl::unexpected(row.error());
        if (!row)
            break;
        rows.push_back(std::move(*row));
    }
    auto array = nlohmann::ordered_json::array();
    for (const auto& row : rows)
        array.push_back(route_bench_json(call.setting, row));
    const auto printed =
        context.json ? print_json(array) : print_text(route_bench_table(call.setting, rows, context.colour));
    if (!printed)
        return tl::unexpected(printed.error());
    if (!context.json)
        for (const auto& row : rows)
            std::fprintf(stderr, "batch %d: %s\n", row.options.batch, route_bench_verdict(row).c_str());
    return rows.size() == request.batches.size() ? exit_done : exit_interrupted;
}

} // namespace moira
