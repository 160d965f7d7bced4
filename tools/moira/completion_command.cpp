#include "config/settings_table.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"

namespace moira {

namespace {

/// One command as bash sees it: words of each kind, joined by blanks.
struct completion_words {
    std::string path; ///< "moira bench serve"
    std::string commands, options, files, models, other_values;
};

void append_word(std::string& words, const std::string& word) {
    words += words.empty() ? word : " " + word;
}

void add_option_words(const CLI::Option& option, completion_words& words) {
    std::vector<std::string> names;
    for (const auto& name : option.get_lnames())
        names.push_back("--" + name);
    for (const auto& name : option.get_snames())
        names.push_back("-" + name);
    for (const auto& name : names) {
        append_word(words.options, name);
        if (option.get_items_expected_max() == 0)
            continue; // a flag
        if (option.get_type_name() == "FILE")
            append_word(words.files, name);
        else if (option.get_type_name() == "MODEL")
            append_word(words.models, name);
        else if (name != "--set")
            append_word(words.other_values, name);
    }
}

/// The command and everything below it, depth first.
void collect(const CLI::App& command, const std::string& path, std::vector<completion_words>& all) {
    completion_words words;
    words.path = path;
    for (const auto* option : command.get_options())
        add_option_words(*option, words);
    const auto below = command.get_subcommands([](const CLI::App*) { return true; });
    for (const auto* each : below)
        append_word(words.commands, each->get_name());
    all.push_back(std::move(words));
    for (const auto* each : below)
        collect(*each, path + " " + each->get_name(), all);
}

std::string setting_keys() {
    std::string keys;
    for (const auto& row : settings_table())
        append_word(keys, std::string(row.key));
    return keys;
}

constexpr const char* script_begin =
    R"bash(# Completion of moira for bash, made by `moira completion bash`. Use: source <(moira completion bash)
_moira_models() {
    "${COMP_WORDS[0]}" list --json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d '"' -f 4
}

_moira() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}" path=moira
    local commands options files models other_values i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; ++i)); do
        case "$path ${COMP_WORDS[i]}" in
)bash";

constexpr const char* script_end = R"bash(    *) return ;;
    esac
    if [[ " $files " == *" $before "* ]]; then
        compopt -o default 2>/dev/null
    elif [[ " $models " == *" $before "* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_moira_models)" -- "$word"; compgen -d -- "$word")
    elif [[ "$before" == --set ]]; then
        compopt -o nospace 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -S = -W "$_moira_keys" -- "$word")
    elif [[ " $other_values " == *" $before "* ]]; then
        return
    elif [[ "$word" == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
    fi
}
complete -F _moira moira
)bash";

std::string bash_script(const CLI::App& root) {
    std::vector<completion_words> all;
    collect(root, "moira", all);
    std::string text = script_begin;
    for (const auto& words : all)
        if (words.path != "moira")
            text += "        \"" + words.path + "\") path=\"" + words.path + "\" ;;\n";
    text += "        esac\n    done\n    local _moira_keys=\"" + setting_keys() + "\"\n    case \"$path\" in\n";
    for (const auto& words : all)
        text += "    \"" + words.path + "\")\n        commands=\"" + words.commands + "\"\n        options=\"" +
                words.options + "\"\n        files=\"" + words.files + "\" models=\"" + words.models +
                "\"\n        other_values=\"" + words.other_values + "\" ;;\n";
    return text + script_end;
}

result<exit_code> run_completion(const std::string& shell, const CLI::App& root, const command_context& context) {
    if (shell != "bash")
        return fail(errc::unsupported, "completion for \"" + shell.substr(0, 40) +
                                           "\" is not in this version; bash is (zsh can read it after bashcompinit)");
    const auto script = bash_script(root);
    const auto printed = context.json ? print_json({{"shell", shell}, {"script", script}}) : print_text(script);
    return printed.map([] { return exit_done; });
}

} // namespace

void add_completion_command(command_line& line) {
    auto shell = std::make_shared<std::string>("bash");
    CLI::App& command =
        line.add(line.root(), "completion", "print a script that completes commands and options in a shell",
                 [shell, &line](command_context& context) { return run_completion(*shell, line.root(), context); });
    command.add_option("SHELL", *shell, "bash")->type_name("SHELL")->capture_default_str();
    command.footer("For this shell: source <(moira completion bash)\n"
                   "For every one: moira completion bash > ~/.local/share/bash-completion/completions/moira");
}

} // namespace moira
