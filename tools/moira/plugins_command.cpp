#include "core/model/checkpoint.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/op_report.hpp"
#include "tools/moira/open_plugins.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>

namespace moira {

namespace {

struct plugins_options {
    std::string model;
    bool why = false;
};

std::string found_text(const std::vector<found_plugin>& found, bool colour) {
    text_table table({"PLUGIN", "DEVICE", "SCORE", "STATE", "WHY"});
    for (const auto& plugin : found)
        table.add({plugin.name, plugin.device_class, std::to_string(plugin.score), plugin.open ? "usable" : "not used",
                   plugin.reason});
    return table.print(colour);
}

result<exit_code> run_plugins(const plugins_options& options, command_context& context) {
    const settings& all = context.settings.values;
    // One thread: nothing is computed here.
    compute_pool pool(compute_pool::options{1, 0});
    const auto host = open_plugins(all, all.compute.plugin, pool);
    if (!host)
        return tl::unexpected(host.error());
    const auto model = find_model(options.model, places_of_models(all));
    if (!model)
        return tl::unexpected(model.error());
    const auto files = checkpoint::open(model->folder);
    if (!files)
        return tl::unexpected(files.error());
    const auto ops = report_ops(*files, **host, all);
    if (!ops)
        return tl::unexpected(ops.error());
    const auto printed = context.json
                             ? print_json(op_report_json(*ops))
                             : print_text(found_text((*host)->found(), context.colour) + "\nops of " + model->name +
                                          ":\n" + op_report_text(*ops, options.why, context.colour));
    const bool complete = std::ranges::all_of(*ops, [](const op_report& op) { return op.missing.empty(); });
    return printed.map([complete] { return complete ? exit_done : exit_failed; });
}

} // namespace

void add_plugins_command(command_line& line) {
    auto options = std::make_shared<plugins_options>();
    CLI::App& command = line.add(line.root(), "plugins", "every plugin found, and which one runs what",
                                 [options](command_context& context) { return run_plugins(*options, context); });
    add_model_option(command, options->model);
    command.add_flag("--why", options->why, "say for each op why each plugin was or was not chosen");
}

} // namespace moira
