#pragma once

#include "config/settings_load.hpp"
#include "core/base/error.hpp"
#include "tools/moira/exit_codes.hpp"

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moira {

/// What every command gets: the settings in force and how to answer.
struct command_context {
    loaded_settings settings;
    bool json = false;
    bool colour = false; ///< standard output is a terminal and NO_COLOR is not set
    std::string config_file = {}; ///< --config, for commands that need a second set of settings; empty: none
};

/// What a command does after its options were read. An error is printed and becomes the exit code.
using command_action = std::function<result<exit_code>(command_context&)>;

/// The commands of the program. Each is added with the options that all of them take: --config, --set, --json, --help.
class command_line {
public:
    command_line();

    /// The program itself, to which commands are added.
    CLI::App& root() noexcept { return app_; }

    /// Adds a command below `parent` (the root, or another command: `eval golden`). `action` may be empty for a command
    /// that only groups others. Options are added to the returned app; what they write to must live in `action`.
    CLI::App& add(CLI::App& parent, const std::string& name, const std::string& description, command_action action);

    /// Reads the command line and runs the chosen command. Prints errors to standard error, and with --json as one
    /// object to standard output too. Never throws.
    int run(int argument_count, char** arguments) noexcept;

private:
    struct command {
        CLI::App* app = nullptr;
        command_action action;
        std::string config_file;
        std::vector<std::string> assignments;
        bool json = false;
    };

    int parse_and_run(int argument_count, char** arguments);
    int run_command(command& chosen);
    command* chosen_command();

    CLI::App app_;
    std::vector<std::unique_ptr<command>> commands_;
};

/// Writes one JSON value and a line end to standard output. Invalid UTF-8 becomes U+FFFD. Errors: io_error (a closed
/// pipe, a full disk).
result<void> print_json(const nlohmann::ordered_json& value);

/// Writes text to standard output as it is. Errors: io_error.
result<void> print_text(std::string_view text);

/// Adds `-m`, which every command with a model takes.
void add_model_option(CLI::App& command, std::string& model);

} // namespace moira
