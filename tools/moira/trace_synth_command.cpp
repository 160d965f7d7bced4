#include "core/simulate/route_synthesis.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"

namespace moira {

namespace {

struct trace_synth_options {
    route_synthesis wanted;
    std::string source, file;
    bool uniform = false;
};

result<exit_code> run_trace_synth(const trace_synth_options& options, command_context& context) {
    if (options.uniform != options.source.empty())
        return fail(errc::invalid_argument, "say what routing to make: --uniform, or --skew-from a recording");
    result<route_trace> made = make_uniform_routes(options.wanted);
    if (!options.uniform) {
        const auto source = read_route_trace(options.source);
        if (!source)
            return tl::unexpected(source.error());
        made = make_routes_like(*source, options.wanted);
    }
    if (!made)
        return tl::unexpected(made.error());
    if (auto written = write_route_trace(*made, options.file); !written)
        return tl::unexpected(written.error());
    if (context.json)
        return print_json({{"path", options.file},
                           {"layers", made->layers},
                           {"experts", made->experts},
                           {"top_k", made->top_k},
                           {"sequences", made->sequences.size()},
                           {"tokens", made->tokens()},
                           {"seed", options.wanted.seed}})
            .map([] { return exit_done; });
    return print_text(options.file + ": " + std::to_string(made->tokens()) + " tokens in " +
                      std::to_string(made->sequences.size()) + " sequences, " + std::to_string(made->layers) +
                      " layers of " + std::to_string(made->experts) + " experts, top " + std::to_string(made->top_k) +
                      "\n")
        .map([] { return exit_done; });
}

constexpr const char* footer_text =
    "--uniform draws experts evenly: the worst case for any cache. --skew-from gives other dimensions the popularity\n"
    "and the habits of a real recording. The same options give the same bytes.";

} // namespace

void add_trace_synth_command(command_line& line, CLI::App& trace) {
    auto options = std::make_shared<trace_synth_options>();
    auto& wanted = options->wanted;
    wanted.sequences = 16;
    CLI::App& command = line.add(trace, "synth", "make a recording of other dimensions, for measuring",
                                 [options](command_context& context) { return run_trace_synth(*options, context); });
    auto* uniform = command.add_flag("--uniform", options->uniform, "every expert equally often");
    command.add_option("--skew-from", options->source, "a recording to be like")->excludes(uniform)->type_name("FILE");
    command.add_option("--layers", wanted.layers, "layers that route")->required()->type_name("L");
    command.add_option("--experts", wanted.experts, "of each layer")->required()->type_name("E");
    command.add_option("--top-k", wanted.top_k, "chosen for each token")->required()->type_name("K");
    command.add_option("--tokens", wanted.tokens, "of all sequences")->required()->type_name("T");
    command.add_option("--sequences", wanted.sequences, "how many")->type_name("N")->capture_default_str();
    command.add_option("--seed", wanted.seed, "another one, other choices")->type_name("S")->capture_default_str();
    command.add_option("-o,--output", options->file, "the file to write")->required()->type_name("FILE");
    command.footer(footer_text);
}

} // namespace moira
