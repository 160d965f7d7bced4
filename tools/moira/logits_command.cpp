#include "core/evaluate/prompt_pass.hpp"
#include "core/model/safetensors.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/input_text.hpp"
#include "tools/moira/load_model.hpp"

#include <algorithm>
#include <cmath>
#include <span>

namespace moira {

namespace {

struct logits_options {
    std::string model, ids, ids_file, out;
    bool hidden = false, routing = false, mtp = false;
};

template <class T>
tensor_to_write matrix(std::string name, tensor_type type, std::int64_t rows, const std::vector<T>& values) {
    return {std::move(name), type, {rows, static_cast<std::int64_t>(values.size()) / rows}, std::as_bytes(std::span(values))};
}

result<exit_code> run_logits(const logits_options& options, command_context& context) {
    auto text = options.ids_file.empty() ? result<std::string>(options.ids) : read_input_text(options.ids_file);
    if (!text)
        return tl::unexpected(text.error());
    auto ids = parse_token_ids(*text);
    if (!ids)
        return tl::unexpected(ids.error());
    auto room = load_model(options.model, context, options.mtp);
    if (!room)
        return tl::unexpected(room.error());
    prompt_pass_options wanted;
    wanted.hidden = options.hidden;
    wanted.routing = options.routing;
    wanted.mtp = options.mtp;
    auto pass = run_prompt(*room->model, *ids, wanted);
    if (!pass)
        return tl::unexpected(pass.error());

    std::vector<tensor_to_write> tensors{matrix("logits", tensor_type::f32, pass->tokens, pass->logits)};
    for (std::size_t layer = 0; layer < pass->hidden.size(); ++layer)
        tensors.push_back(matrix("hidden." + std::to_string(layer), tensor_type::f32, pass->tokens, pass->hidden[layer]));
    for (const auto& [layer, chosen] : pass->routing)
        tensors.push_back(matrix("routing." + std::to_string(layer), tensor_type::i32, pass->tokens, chosen));
    if (!pass->mtp_logits.empty())
        tensors.push_back(matrix("mtp_logits", tensor_type::f32, pass->tokens - 1, pass->mtp_logits));
    if (auto written = write_safetensors(options.out, tensors, {{"numerics_id", room->model->numerics_id()}}); !written)
        return tl::unexpected(written.error());

    float largest = 0;
    for (const float value : pass->logits)
        largest = std::max(largest, std::abs(value));
    if (context.json)
        return print_json({{"tokens", pass->tokens}, {"max_abs_logit", largest}, {"numerics_id", room->model->numerics_id()}})
            .map([] { return exit_done; });
    return print_text(options.out + ": " + std::to_string(tensors.size()) + " tensors of " + std::to_string(pass->tokens) +
                      " tokens, largest logit " + std::to_string(largest) + "\n")
        .map([] { return exit_done; });
}

}  // namespace

void add_logits_command(command_line& line) {
    auto options = std::make_shared<logits_options>();
    CLI::App& command = line.add(line.root(), "logits", "one forward pass; its tensors go into a safetensors file",
                                 [options](command_context& context) { return run_logits(*options, context); });
    add_model_option(command, options->model);
    auto* ids = command.add_option("--ids", options->ids, "token ids: \"0 1 2\"");
    command.add_option("--ids-file", options->ids_file, "a file of token ids, - for standard input")->excludes(ids)->type_name("FILE");
    command.add_option("--out", options->out, "the file to write")->required()->type_name("FILE");
    command.add_flag("--hidden", options->hidden, "also hidden.N: the residual stream before layer N, then after the final norm");
    command.add_flag("--routing", options->routing, "also routing.L: the experts chosen in layer L");
    command.add_flag("--mtp", options->mtp, "also mtp_logits of the multi-token-prediction layer: row i predicts token i + 2");
}

}  // namespace moira
