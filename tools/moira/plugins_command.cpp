#include "plugins/plugin_host.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/executable_path.hpp"
#include "tools/moira/text_table.hpp"

namespace moira {

namespace {

struct plugins_options {
    bool why = false;
};

nlohmann::ordered_json found_json(const found_plugin& plugin) {
    return {{"name", plugin.name},   {"file", plugin.file.string()}, {"device_class", plugin.device_class},
            {"score", plugin.score}, {"open", plugin.open},          {"reason", plugin.reason}};
}

std::string found_text(const std::vector<found_plugin>& found, bool why, bool colour) {
    text_table table(why ? std::vector<std::string>{"PLUGIN", "DEVICE", "SCORE", "STATE", "WHY"}
                         : std::vector<std::string>{"PLUGIN", "DEVICE", "SCORE", "STATE"});
    for (const auto& plugin : found) {
        std::vector<std::string> cells{plugin.name, plugin.device_class, std::to_string(plugin.score),
                                       plugin.open ? "usable" : "not used"};
        if (why)
            cells.push_back(plugin.reason);
        table.add(std::move(cells));
    }
    return table.print(colour);
}

result<exit_code> run_plugins(const plugins_options& options, command_context& context) {
    const settings& all = context.settings.values;
    // One thread: nothing is computed here.
    compute_pool pool(compute_pool::options{1, 0});
    plugin_host::options wanted;
    wanted.folders = plugin_folders(all.plugins.path);
    wanted.forced_plugin = all.compute.plugin;
    const auto host = plugin_host::open(wanted, pool);
    if (!host)
        return tl::unexpected(host.error());
    auto found = nlohmann::ordered_json::array();
    for (const auto& plugin : (*host)->found())
        found.push_back(found_json(plugin));
    const auto printed =
        context.json ? print_json(found) : print_text(found_text((*host)->found(), options.why, context.colour));
    return printed.map([] { return exit_done; });
}

} // namespace

void add_plugins_command(command_line& line) {
    auto options = std::make_shared<plugins_options>();
    CLI::App& command = line.add(line.root(), "plugins", "every plugin found, and which one runs what",
                                 [options](command_context& context) { return run_plugins(*options, context); });
    command.add_flag("--why", options->why, "say for each plugin and op why it was or was not chosen");
}

} // namespace moira
