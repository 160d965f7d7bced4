#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/input_text.hpp"
#include "tools/moira/model_lookup.hpp"

#include <cstddef>

namespace moira {

namespace {

struct detokenize_options {
    std::string model, ids;
    bool ids_given = false;
    bool special = false;
};

result<void> check_ids(const std::vector<token_id>& ids, const tokenizer& words) {
    for (const token_id id : ids)
        if (static_cast<std::size_t>(id) >= words.vocabulary_size())
            return fail(errc::token_out_of_range, "token ids: found " + std::to_string(id) + ", expected 0 to " +
                                                      std::to_string(words.vocabulary_size() - 1));
    return {};
}

result<exit_code> run_detokenize(const detokenize_options& options, command_context& context) {
    const auto words = find_tokenizer(options.model, context.settings.values);
    if (!words)
        return tl::unexpected(words.error());
    const auto written = options.ids_given ? result<std::string>(options.ids) : read_input_text("-");
    if (!written)
        return tl::unexpected(written.error());
    const auto ids = parse_token_ids(*written);
    if (!ids)
        return tl::unexpected(ids.error());
    if (auto checked = check_ids(*ids, *words); !checked)
        return tl::unexpected(checked.error());
    const std::string text = words->decode(*ids, options.special);
    const auto printed = context.json ? print_json({{"text", text}}) : print_text(text + "\n");
    return printed.map([] { return exit_done; });
}

} // namespace

void add_detokenize_command(command_line& line) {
    auto options = std::make_shared<detokenize_options>();
    CLI::App& command = line.add(line.root(), "detokenize", "token ids to text; needs only the model's tokenizer",
                                 [options](command_context& context) { return run_detokenize(*options, context); });
    add_model_option(command, options->model);
    command.add_option("--ids", options->ids, "ids such as \"1 2 3\"; without it standard input is read")
        ->type_name("IDS")
        ->each([options](const std::string&) { options->ids_given = true; });
    command.add_flag("--special", options->special, "show special tokens such as BOS");
}

} // namespace moira
