#include "core/synthesize/synthesize.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <unistd.h>

namespace moira {

namespace {

struct synth_options {
    std::string shape, dtype = "bf16", folder;
    std::int32_t layers = 0, context = 0;
    std::uint64_t seed = 0;
    bool force = false;
};

/// More threads than this only wait for the disk: one makes about 2 GB/s.
constexpr std::uint32_t threads_max = 4;

/// A line that overwrites itself, on a terminal only.
std::function<void(std::uint64_t, std::uint64_t)> progress_line() {
    if (::isatty(STDERR_FILENO) == 0)
        return {};
    return [](std::uint64_t written, std::uint64_t total) {
        std::fprintf(stderr, "\r\033[Kwriting %s of %s", rounded_bytes(written).c_str(), rounded_bytes(total).c_str());
    };
}

result<synthesis> planned(const synth_options& options) {
    const auto* shape = find_synthetic_shape(options.shape);
    if (!shape)
        return fail(errc::invalid_argument,
                    "no shape is called \"" + options.shape.substr(0, 40) + "\": there are " + synthetic_shape_names());
    synthesis what;
    what.shape = *shape;
    if (options.layers > 0)
        what.shape.layers = options.layers;
    if (options.context > 0)
        what.shape.context_max = options.context;
    what.fp8 = options.dtype == "fp8";
    what.seed = options.seed;
    what.folder = options.folder;
    what.replace = options.force;
    what.threads = std::clamp(std::thread::hardware_concurrency(), 1u, threads_max);
    what.progress = progress_line();
    what.interrupted = watch_interrupt();
    return what;
}

result<exit_code> run_synth(const synth_options& options, command_context& context) {
    auto what = planned(options);
    if (!what)
        return tl::unexpected(what.error());
    const auto start = std::chrono::steady_clock::now();
    const auto made = synthesize(*what);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (what->progress)
        std::fputs("\r\033[K", stderr);
    if (!made)
        return tl::unexpected(made.error());
    const double gb_s = static_cast<double>(made->bytes) / 1e9 / elapsed.count();
    if (context.json)
        return print_json({{"shape", what->shape.name},
                           {"path", options.folder},
                           {"architecture", model_type_of(what->shape.family)},
                           {"layers", what->shape.layers},
                           {"dtype", options.dtype},
                           {"seed", options.seed},
                           {"bytes", made->bytes},
                           {"tensors", made->tensors},
                           {"shards", made->shards},
                           {"elapsed_s", elapsed.count()},
                           {"gb_s", gb_s}})
            .map([] { return exit_done; });
    std::array<char, 32> speed{};
    std::snprintf(speed.data(), speed.size(), "%.2f GB/s", gb_s);
    return print_text(options.folder + ": " + what->shape.name + ", " + std::to_string(what->shape.layers) +
                      " layers, " + options.dtype + ", " + rounded_bytes(made->bytes) + " in " +
                      std::to_string(made->tensors) + " tensors, written at " + speed.data() + "\n")
        .map([] { return exit_done; });
}

constexpr const char* footer_text =
    "A Hugging Face folder with random weights, for measuring speed: its text is nonsense. The same shape, dtype and "
    "seed\n"
    "give the same bytes. fp8: every linear weight but embedding and routers as E4M3 with a scale per 128 x 128 "
    "block,\n"
    "the values of the bf16 model of that seed, rounded.\n"
    "This version runs qwen3-30b-a3b, olmoe-1b-7b, moe-1b, mla-1b and gpt-oss-stand-in, which plays recordings of "
    "gpt-oss-20b:\n"
    "as many layers, experts and bytes of each, in qwen3_moe. The others are written as their models are published, "
    "for the\n"
    "tools that read them: gpt-oss-20b with unquantised experts.\n"
    "Ctrl-C and errors leave nothing behind. --force replaces a folder only when this command made it.";

} // namespace

void add_synth_command(command_line& line) {
    auto options = std::make_shared<synth_options>();
    CLI::App& command = line.add(line.root(), "synth", "make a model with random weights at real dimensions",
                                 [options](command_context& context) { return run_synth(*options, context); });
    command.add_option("SHAPE", options->shape, synthetic_shape_names())->required()->type_name("SHAPE");
    command.add_option("-o,--output", options->folder, "the folder to make")->required()->type_name("DIR");
    command.add_option("--layers", options->layers, "how many layers; default: all that the model has")
        ->check(CLI::Range(1, 1'024))
        ->type_name("L");
    command.add_option("--dtype", options->dtype, "bf16 or fp8")
        ->check(CLI::IsMember({"bf16", "fp8"}))
        ->type_name("DTYPE")
        ->capture_default_str();
    command.add_option("--seed", options->seed, "another one, other weights")->type_name("S")->capture_default_str();
    command.add_option("--context", options->context, "context length; default: the model's")
        ->check(CLI::Range(16, 1 << 24))
        ->type_name("TOKENS");
    command.add_flag("--force", options->force, "replace a folder that this command made");
    command.footer(footer_text);
}

} // namespace moira
