#include "config/settings_table.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/text_table.hpp"

#include <utility>
#include <variant>

namespace moira {

namespace {

nlohmann::ordered_json value_json(const setting_row& row, const settings& all) {
    return std::visit([](auto value) { return nlohmann::ordered_json(std::move(value)); }, read_setting(row, all));
}

nlohmann::ordered_json row_json(const setting_row& row, const loaded_settings& loaded) {
    const settings defaults;
    nlohmann::ordered_json json{
        {"key", row.key},      {"value", value_json(row, loaded.values)}, {"origin", loaded.origin(row.key)},
        {"unit", row.unit},    {"default", value_json(row, defaults)},    {"expected", setting_expectation(row)},
        {"reason", row.reason}};
    return json;
}

result<exit_code> run_config(command_context& context) {
    if (context.json) {
        auto rows = nlohmann::ordered_json::array();
        for (const setting_row& row : settings_table())
            rows.push_back(row_json(row, context.settings));
        return print_json(rows).map([] { return exit_done; });
    }
    text_table table({"KEY", "VALUE", "ORIGIN", "MEANING"});
    for (const setting_row& row : settings_table()) {
        const std::string value = setting_text(row, context.settings.values);
        table.add({std::string(row.key), value.empty() ? "-" : value, std::string(context.settings.origin(row.key)),
                   std::string(row.reason)});
    }
    return print_text(table.print(context.colour)).map([] { return exit_done; });
}

} // namespace

void add_config_command(command_line& line) {
    line.add(line.root(), "config", "the settings in force, and where each value comes from", &run_config);
}

} // namespace moira
