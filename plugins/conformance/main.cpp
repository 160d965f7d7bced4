// Compares one plugin with cpu_reference, for people who write plugins.
#include "plugins/conformance/conformance.hpp"

#include <iostream>
#include <string_view>

namespace {

constexpr int exit_passed = 0;
constexpr int exit_usage = 2;
constexpr int exit_failed = 3;
constexpr int exit_unusable = 4;

constexpr const char* usage =
    "usage: moira_conformance_check --plugin NAME --plugins-dir DIR [--plugins-dir DIR ...] [--filter TEXT] [--all]\n"
    "       [--rows-sweep quick|full]\n"
    "Checks every op of a plugin against cpu_reference (which must be in one of the folders).\n"
    "--rows-sweep: instead, the bits of each row alone and among 1 to 33, 128 and 512 rows (quick: fewer), for every "
    "op\n"
    "and type of weights.\n"
    "exit code: 0 all passed, 2 wrong usage or no such plugin, 3 a check failed, 4 the plugin cannot run here\n";

bool parse(int count, char** arguments, moira::conformance_options& options, bool& all) {
    for (int i = 1; i < count; ++i) {
        const std::string_view name = arguments[i];
        if (name == "--all") {
            all = true;
            continue;
        }
        if (i + 1 >= count)
            return false;
        const char* value = arguments[++i];
        if (name == "--plugin")
            options.plugin = value;
        else if (name == "--plugins-dir")
            options.folders.emplace_back(value);
        else if (name == "--filter")
            options.filter = value;
        else if (name == "--rows-sweep" && std::string_view(value) == "quick")
            options.sweep = moira::row_sweep::quick;
        else if (name == "--rows-sweep" && std::string_view(value) == "full")
            options.sweep = moira::row_sweep::full;
        else
            return false;
    }
    return !options.plugin.empty() && !options.folders.empty();
}

} // namespace

int main(int count, char** arguments) {
    moira::conformance_options options;
    bool all = false;
    if (!parse(count, arguments, options, all)) {
        std::cerr << usage;
        return exit_usage;
    }
    const auto report = moira::run_conformance(options);
    if (!report) {
        std::cerr << report.error().message << '\n';
        return exit_usage;
    }
    moira::print_report(std::cout, *report, all);
    if (!report->unusable.empty())
        return exit_unusable;
    return report->count(moira::check_outcome::failed) == 0 ? exit_passed : exit_failed;
}
