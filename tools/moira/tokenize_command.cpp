#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/input_text.hpp"
#include "tools/moira/model_lookup.hpp"

namespace moira {

namespace {

struct tokenize_options {
    std::string model, text, file;
    bool text_given = false;
    bool no_special = false;
};

result<exit_code> run_tokenize(const tokenize_options& options, command_context& context) {
    const auto words = find_tokenizer(options.model, context.settings.values);
    if (!words)
        return tl::unexpected(words.error());
    const auto text = options.text_given ? result<std::string>(options.text)
                                         : read_input_text(options.file.empty() ? "-" : options.file);
    if (!text)
        return tl::unexpected(text.error());
    const auto ids = words->encode(*text, options.no_special ? tokenizer::special::skip : tokenizer::special::add);
    if (!ids)
        return tl::unexpected(ids.error());
    if (context.json)
        return print_json({{"token_ids", *ids}, {"tokens", ids->size()}}).map([] { return exit_done; });
    std::string line;
    for (const token_id id : *ids)
        line += (line.empty() ? "" : " ") + std::to_string(id);
    return print_text(line + "\n").map([] { return exit_done; });
}

} // namespace

void add_tokenize_command(command_line& line) {
    auto options = std::make_shared<tokenize_options>();
    CLI::Option* text = nullptr;
    CLI::App& command = line.add(line.root(), "tokenize", "text to token ids; needs only the model's tokenizer",
                                 [options](command_context& context) { return run_tokenize(*options, context); });
    add_model_option(command, options->model);
    text = command.add_option("-p,--prompt", options->text, "the text; without it standard input is read");
    text->each([options](const std::string&) { options->text_given = true; });
    command.add_option("--text-file", options->file, "read the text from a file")->excludes(text)->type_name("FILE");
    command.add_flag("--no-special", options->no_special, "do not add the model's BOS or other special tokens");
}

} // namespace moira
