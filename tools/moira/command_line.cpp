#include "tools/moira/command_line.hpp"

#include "tools/moira/version.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <unistd.h>

namespace moira {

namespace {

bool stdout_has_colour() {
    return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
}

int report(const error& why, bool json) {
    const error_description& row = describe(why.code);
    std::fprintf(stderr, "moira: %s\n       %.*s: %.*s\n", why.message.c_str(), static_cast<int>(row.name.size()),
                 row.name.data(), static_cast<int>(row.advice.size()), row.advice.data());
    if (json) {
        // The exit code already says that it failed: nothing more can be said when this print fails too.
        [[maybe_unused]] const auto printed =
            print_json({{"error", {{"code", row.name}, {"message", why.message}, {"advice", row.advice}}}});
    }
    return exit_code_of(why.code);
}

int report_internal(const char* what) noexcept {
    std::fprintf(stderr, "moira: internal: %s\n       report it with the command line\n", what);
    return exit_failed;
}

} // namespace

command_line::command_line()
    : app_("MOIRA: mixture-of-experts inference on a budget smaller than the experts", "moira") {
    app_.set_version_flag("--version", MOIRA_VERSION);
    app_.require_subcommand(0, 1);
    app_.footer("`moira COMMAND --help` explains a command.");
}

CLI::App& command_line::add(CLI::App& parent, const std::string& name, const std::string& description,
                            command_action action) {
    auto added = std::make_unique<command>();
    CLI::App* app = parent.add_subcommand(name, description);
    added->app = app;
    added->action = std::move(action);
    app->add_option("--config", added->config_file, "settings file (TOML)")->type_name("FILE");
    app->add_option("--set", added->assignments, "set one key; may be repeated; `moira config` lists all keys")
        ->type_name("SECTION.KEY=VALUE")
        ->allow_extra_args(false);
    app->add_flag("--json", added->json, "one JSON value on standard output and nothing else");
    commands_.push_back(std::move(added));
    return *app;
}

// Children are added after their parents: the last parsed one is the innermost.
command_line::command* command_line::chosen_command() {
    for (auto each = commands_.rbegin(); each != commands_.rend(); ++each)
        if ((*each)->app->parsed())
            return each->get();
    return nullptr;
}

int command_line::run_command(command& chosen) {
    if (!chosen.action) {
        std::fputs(chosen.app->help().c_str(), stderr);
        return exit_wrong_input;
    }
    auto settings = load_settings(chosen.config_file, chosen.assignments);
    if (!settings)
        return report(settings.error(), chosen.json);
    command_context context{std::move(*settings), chosen.json, stdout_has_colour(), chosen.config_file};
    const auto outcome = chosen.action(context);
    return outcome ? static_cast<int>(*outcome) : report(outcome.error(), chosen.json);
}

int command_line::parse_and_run(int argument_count, char** arguments) {
    try {
        app_.parse(argument_count, arguments);
    } catch (const CLI::ParseError& why) {
        // --help and --version arrive as exceptions too; exit() prints the help or the message.
        return app_.exit(why) == 0 ? exit_done : exit_wrong_input;
    }
    if (command* chosen = chosen_command())
        return run_command(*chosen);
    std::fputs(app_.help().c_str(), stderr);
    return exit_wrong_input;
}

int command_line::run(int argument_count, char** arguments) noexcept {
    try {
        return parse_and_run(argument_count, arguments);
    } catch (const std::exception& why) {
        return report_internal(why.what());
    } catch (...) {
        return report_internal("an unknown exception");
    }
}

result<void> print_text(std::string_view text) {
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (!written)
        return fail(errc::io_error, "standard output cannot be written: is the pipe closed or the disk full?");
    return {};
}

result<void> print_json(const nlohmann::ordered_json& value) {
    return print_text(value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

void add_model_option(CLI::App& command, std::string& model) {
    command
        .add_option("-m,--model", model,
                    "a folder in Hugging Face layout, or a name that `moira list` shows; default: moira-demo")
        ->type_name("MODEL");
}

} // namespace moira
