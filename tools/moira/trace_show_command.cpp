#include "core/route/route_trace.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace moira {

namespace {

/// How evenly a layer's experts are used.
struct layer_use {
    std::uint16_t number = 0;
    std::uint32_t busiest = 0, laziest = 0;
    double busiest_share = 0, laziest_share = 0; ///< of the layer's choices
    double entropy = 0;                          ///< bits, at most log2(experts)
    double repeated = 0;                         ///< share of choices that the token before made too
};

layer_use use_of(const route_trace& trace, std::uint32_t layer) {
    std::vector<std::uint64_t> counts(trace.experts);
    std::uint64_t choices = 0, repeated = 0, followers = 0;
    for (const auto& sequence : trace.sequences)
        for (std::uint32_t token = 0; token < sequence.tokens; ++token) {
            const auto ids = trace.ids(sequence, token, layer);
            for (const auto id : ids)
                ++counts[id];
            choices += ids.size();
            if (token == 0)
                continue;
            const auto before = trace.ids(sequence, token - 1, layer);
            followers += ids.size();
            repeated += static_cast<std::uint64_t>(std::count_if(ids.begin(), ids.end(), [before](std::uint16_t id) {
                return std::find(before.begin(), before.end(), id) != before.end();
            }));
        }
    layer_use use{.number = trace.layer_numbers[layer]};
    const auto share = [](std::uint64_t part, std::uint64_t whole) {
        return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
    };
    const auto busiest = std::max_element(counts.begin(), counts.end());
    const auto laziest = std::min_element(counts.begin(), counts.end());
    use.busiest = static_cast<std::uint32_t>(busiest - counts.begin());
    use.laziest = static_cast<std::uint32_t>(laziest - counts.begin());
    use.busiest_share = share(*busiest, choices);
    use.laziest_share = share(*laziest, choices);
    for (const auto count : counts)
        if (count > 0)
            use.entropy -= share(count, choices) * std::log2(share(count, choices));
    use.repeated = share(repeated, followers);
    return use;
}

result<exit_code> run_trace_show(const std::string& file, command_context& context) {
    const auto trace = read_route_trace(file);
    if (!trace)
        return tl::unexpected(trace.error());
    std::uint64_t prompt_tokens = 0;
    for (const auto& sequence : trace->sequences)
        prompt_tokens += sequence.prompt_tokens;
    auto layers = nlohmann::ordered_json::array();
    text_table table({"layer", "busiest", "", "laziest", "", "entropy", "as the token before"});
    const auto percent = [](double share) {
        char text[32];
        std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
        return std::string(text);
    };
    for (std::uint32_t layer = 0; layer < trace->layers; ++layer) {
        const auto use = use_of(*trace, layer);
        char entropy[64];
        std::snprintf(entropy, sizeof entropy, "%.2f of %.2f bits", use.entropy,
                      std::log2(static_cast<double>(trace->experts)));
        table.add({std::to_string(use.number), std::to_string(use.busiest), percent(use.busiest_share),
                   std::to_string(use.laziest), percent(use.laziest_share), entropy, percent(use.repeated)});
        layers.push_back({{"layer", use.number},
                          {"busiest", use.busiest},
                          {"busiest_share", use.busiest_share},
                          {"laziest", use.laziest},
                          {"laziest_share", use.laziest_share},
                          {"entropy_bits", use.entropy},
                          {"repeated_share", use.repeated}});
    }
    if (context.json)
        return print_json({{"layers", trace->layers},
                           {"experts", trace->experts},
                           {"top_k", trace->top_k},
                           {"hidden", trace->hidden},
                           {"sequences", trace->sequences.size()},
                           {"tokens", trace->tokens()},
                           {"prompt_tokens", prompt_tokens},
                           {"by_layer", std::move(layers)}})
            .map([] { return exit_done; });
    char head[256];
    std::snprintf(
        head, sizeof head, "%u layers of %u experts, top %u; %zu sequences of %llu tokens, %llu of them prompt; %s\n",
        trace->layers, trace->experts, trace->top_k, trace->sequences.size(),
        static_cast<unsigned long long>(trace->tokens()), static_cast<unsigned long long>(prompt_tokens),
        trace->hidden > 0 ? ("states of " + std::to_string(trace->hidden) + " dimensions").c_str() : "no states");
    return print_text(head + table.print(context.colour)).map([] { return exit_done; });
}

} // namespace

void add_trace_show_command(command_line& line, CLI::App& trace) {
    auto file = std::make_shared<std::string>();
    CLI::App& command = line.add(trace, "show", "what a recording holds, and how evenly its experts are used",
                                 [file](command_context& context) { return run_trace_show(*file, context); });
    command.add_option("FILE", *file, "a recording of routing")->required()->type_name("FILE");
}

} // namespace moira
