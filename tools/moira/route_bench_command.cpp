#include "tools/moira/route_bench_command.hpp"

#include "tools/moira/load_model.hpp"
#include "tools/moira/route_bench_report.hpp"

#include <cstdio>
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

result<route_bench_row> run_row(const route_bench_request& request, command_context& context,
                                const route_bench_options& options, const route_trace& trace, bench_setting& setting,
                                const std::function<bool()>& interrupted) {
    auto room = load_model(request.model, context);
    if (!room)
        return tl::unexpected(room.error());
    auto memory = memory_probe::create(*room->pool, request.probe_mib << 20);
    if (!memory)
        return tl::unexpected(memory.error());
    auto disk = disk_probe::create(room->model->model(), room->model->expert_source_bytes());
    if (!disk)
        return tl::unexpected(disk.error());
    setting.model = room->model->model().folder().filename().string();
    setting.threads = room->pool->size();
    setting.probe_bytes = memory->bytes();
    const auto progress = progress_line();
    auto row = measure_routes(*room, trace, *memory, *disk, weights_of(*room->model), options, interrupted, progress);
    if (progress)
        progress("");
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
    const auto trace = read_route_trace(request.routes);
    if (!trace)
        return tl::unexpected(trace.error());
    const auto threads =
        all.compute.threads > 0 ? static_cast<std::uint32_t>(all.compute.threads) : read_device_facts().cpu_cores;
    options.prefetch = prefetch_policy_of(all, threads);
    const auto interrupted = watch_interrupt();
    bench_setting setting;
    std::vector<route_bench_row> rows;
    for (const auto batch : request.batches) {
        options.batch = batch;
        auto row = run_row(request, context, options, *trace, setting, interrupted);
        if (!row && (row.error().code != errc::cancelled || rows.empty()))
            return tl::unexpected(row.error());
        if (!row)
            break;
        rows.push_back(std::move(*row));
    }
    auto array = nlohmann::ordered_json::array();
    for (const auto& row : rows)
        array.push_back(route_bench_json(setting, row));
    const auto printed =
        context.json ? print_json(array) : print_text(route_bench_table(setting, rows, context.colour));
    if (!printed)
        return tl::unexpected(printed.error());
    return rows.size() == request.batches.size() ? exit_done : exit_interrupted;
}

} // namespace moira
