#include "config/byte_size.hpp"
#include "core/pack/pack.hpp"
#include "core/route/route_trace.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/open_plugins.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>
#include <unistd.h>

namespace moira {

namespace {

struct pack_options {
    std::string source, target, experts = "keep", layout = "plain", routes, shard_bytes = "4GB";
    bool restart = false;
};

/// Plugins that know layouts: they pack, and compute nothing.
struct layout_plugins {
    compute_pool pool{compute_pool::options{1, 0}};
    std::unique_ptr<plugin_host> target, source;
};

/// More threads than this only wait for the disk: one rounds about 1 GB/s, and copies faster than disks write.
constexpr std::uint32_t threads_max = 4;

/// A line that overwrites itself, on a terminal only.
std::function<void(std::uint64_t, std::uint64_t)> progress_line() {
    if (::isatty(STDERR_FILENO) == 0)
        return {};
    return [](std::uint64_t done, std::uint64_t all) {
        std::fprintf(stderr, "\r\033[Kpacking %s of %s", rounded_bytes(done).c_str(), rounded_bytes(all).c_str());
    };
}

/// The plugin that experts will have the layout of, and one that undoes the source's: the one that made it, or, where
/// this machine cannot run that, the one in use here, which may have the same layout.
result<void> find_layouts(const pack_options& options, const settings& all, pack_request& request,
                          layout_plugins& plugins) {
    if (options.layout != "plain") {
        auto opened = open_plugins(all, options.layout == "native" ? all.compute.plugin : options.layout, plugins.pool);
        if (!opened)
            return tl::unexpected(opened.error());
        plugins.target = std::move(*opened);
        request.layout = plugins.target.get();
    }
    const auto source = checkpoint::open(request.source);
    if (!source)
        return tl::unexpected(source.error());
    if (const auto* layout = source->expert_layout()) {
        auto opened = open_plugins(all, layout->plugin, plugins.pool);
        if (!opened)
            opened = open_plugins(all, all.compute.plugin, plugins.pool);
        if (!opened)
            return tl::unexpected(opened.error());
        plugins.source = std::move(*opened);
        request.source_plugins = plugins.source.get();
    }
    return {};
}

result<pack_request> request_of(const pack_options& options, const command_context& context,
                                std::optional<route_trace>& routes, layout_plugins& plugins) {
    const auto found = find_model(options.source, places_of_models(context.settings.values));
    if (!found)
        return tl::unexpected(found.error());
    pack_request request;
    request.source = found->folder;
    request.target = options.target;
    request.experts = options.experts == "fp8" ? packed_precision::fp8 : packed_precision::keep;
    request.restart = options.restart;
    const auto shard_bytes = parse_byte_size(options.shard_bytes);
    if (!shard_bytes)
        return tl::unexpected(shard_bytes.error());
    request.shard_bytes_max = shard_bytes->bytes;
    if (!options.routes.empty()) {
        auto trace = read_route_trace(options.routes);
        if (!trace)
            return tl::unexpected(trace.error());
        routes = std::move(*trace);
        request.routes = &*routes;
    }
    if (auto opened = find_layouts(options, context.settings.values, request, plugins); !opened)
        return tl::unexpected(opened.error());
    request.threads = std::clamp(std::thread::hardware_concurrency(), 1U, threads_max);
    request.progress = progress_line();
    request.interrupted = watch_interrupt();
    return request;
}

result<void> print_report(const pack_options& options, const pack_report& made, double elapsed_s, bool json) {
    if (json)
        return print_json(
            {{"path", options.target},
             {"experts", options.experts},
             {"layout", made.layout.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(made.layout)},
             {"bytes_before", made.bytes_before},
             {"bytes_after", made.bytes_after},
             {"expert_bytes", made.expert_bytes},
             {"expert_count", made.experts},
             {"max_relative_error", made.max_relative_error ? nlohmann::ordered_json(*made.max_relative_error)
                                                            : nlohmann::ordered_json(nullptr)},
             {"quantized_from", made.quantized_from.empty() ? nlohmann::ordered_json(nullptr)
                                                            : nlohmann::ordered_json(made.quantized_from)},
             {"shards", made.shards},
             {"resumed_bytes", made.resumed_bytes},
             {"elapsed_s", elapsed_s}});
    std::string text = options.target + ": " + std::to_string(made.experts) + " experts, " +
                       rounded_bytes(made.expert_bytes) + " of " + rounded_bytes(made.bytes_after) + " in " +
                       std::to_string(made.shards) + (made.shards == 1 ? " file" : " files") + "; before " +
                       rounded_bytes(made.bytes_before);
    if (!made.layout.empty())
        text += "; experts in " + made.layout;
    if (made.max_relative_error) {
        std::array<char, 32> error{};
        std::snprintf(error.data(), error.size(), "%.2f %%", 100 * *made.max_relative_error);
        text += "; rounded from " + made.quantized_from + ", a weight moved by at most " + error.data() +
                " of the largest in its block";
    }
    return print_text(text + "\n");
}

result<exit_code> run_pack(const pack_options& options, command_context& context) {
    std::optional<route_trace> routes;
    layout_plugins plugins;
    const auto request = request_of(options, context, routes, plugins);
    if (!request)
        return tl::unexpected(request.error());
    // A limit on file sizes is an error of a write, as a full disk is.
    std::signal(SIGXFSZ, SIG_IGN);
    const auto start = std::chrono::steady_clock::now();
    const auto made = pack_model(*request);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (request->progress)
        std::fputs("\r\033[K", stderr);
    if (!made)
        return tl::unexpected(made.error());
    for (const auto& notice : made->notices)
        std::fprintf(stderr, "moira: %s\n", notice.c_str());
    return print_report(options, *made, elapsed.count(), context.json).map([] { return exit_done; });
}

constexpr const char* footer_text =
    "The same tensors in another order: those of an expert lie side by side and begin on a border of 4 KiB, so that "
    "an\n"
    "expert is one read; every other reader of safetensors opens the result of --layout plain. Each expert and each "
    "other tensor has a\n"
    "checksum, which is compared whenever it is read: damage is named and never computed with.\n"
    "--experts fp8 rounds experts to E4M3 with a scale per 128 x 128 block: half the bytes, and lossy, as every reply\n"
    "of the packed model then says.\n"
    "--layout native keeps experts as the kernels of this machine want them (`moira plugins`), so that loading one is "
    "a\n"
    "read and nothing else. Only MOIRA with such kernels opens the result; --layout plain turns it back, bit for bit.\n"
    "--routes orders experts by how often they are chosen together.\n"
    "SRC is only read. DST grows in DST.part and appears when it is complete. After Ctrl-C, a crash or a full disk "
    "the\n"
    "same command goes on where the last one stopped and makes the same bytes; --restart begins anew.";

} // namespace

void add_pack_command(command_line& line) {
    auto options = std::make_shared<pack_options>();
    CLI::App& command = line.add(line.root(), "pack", "rewrite a model so that each expert is one checked read",
                                 [options](command_context& context) { return run_pack(*options, context); });
    command.add_option("SRC", options->source, "a folder in Hugging Face layout, or a name that `moira list` shows")
        ->required()
        ->type_name("MODEL");
    command.add_option("DST", options->target, "the folder to make")->required()->type_name("DIR");
    command.add_option("--experts", options->experts, "keep or fp8")
        ->check(CLI::IsMember({"keep", "fp8"}))
        ->type_name("PRECISION")
        ->capture_default_str();
    command.add_option("--layout", options->layout, "plain, native, or a plugin that `moira plugins` shows")
        ->type_name("LAYOUT")
        ->capture_default_str();
    command.add_option("--routes", options->routes, "a recording of `moira trace record`")->type_name("FILE");
    command.add_option("--shard-bytes", options->shard_bytes, "largest size of a file's data; an expert is never cut")
        ->type_name("SIZE")
        ->capture_default_str();
    command.add_flag("--restart", options->restart, "throw away what an unfinished pack left");
    command.footer(footer_text);
}

} // namespace moira
