#include "core/model/checkpoint.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/text_table.hpp"

namespace moira {

namespace {

nlohmann::ordered_json inspect_json(const found_model& model, const checkpoint& files,
                                    const checkpoint_summary& summary) {
    const model_shape& shape = files.shape();
    return {{"name", model.name},
            {"path", model.folder.string()},
            {"architecture", summary.architecture},
            {"layers", summary.layers},
            {"moe_layers", shape.moe_layers()},
            {"experts", summary.experts},
            {"top_k", summary.top_k},
            {"hidden", shape.hidden},
            {"vocabulary", shape.vocabulary},
            {"context_max", shape.context_max},
            {"bytes_total", summary.bytes_total},
            {"bytes_per_expert", summary.bytes_per_expert},
            {"bytes_dense", summary.bytes_dense},
            {"bytes_active_per_token", summary.bytes_active_per_token},
            {"bytes_by_type", summary.bytes_by_type},
            {"expert_type", summary.expert_type},
            {"expert_layout", files.expert_layout() ? nlohmann::ordered_json(layout_name(*files.expert_layout()))
                                                    : nlohmann::ordered_json(nullptr)},
            {"refusal",
             summary.refusal.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(summary.refusal)},
            {"notices", files.notices()}};
}

std::string attention_text(const model_shape& shape) {
    if (shape.mla)
        return "multi-head latent, " + std::to_string(shape.mla->heads) + " heads, latent " +
               std::to_string(shape.mla->kv_rank) + " + " + std::to_string(shape.mla->rope_dim);
    if (shape.gqa)
        return "grouped-query, " + std::to_string(shape.gqa->heads) + " heads over " +
               std::to_string(shape.gqa->kv_heads) + " of " + std::to_string(shape.gqa->head_dim);
    return "unknown";
}

std::string inspect_text(const found_model& model, const checkpoint& files, const checkpoint_summary& summary,
                         bool colour) {
    const model_shape& shape = files.shape();
    text_table table({model.name, model.folder.string()});
    table.add({"architecture", summary.architecture});
    table.add({"layers", std::to_string(summary.layers) + ", " + std::to_string(shape.moe_layers()) + " with experts"});
    table.add({"experts",
               std::to_string(summary.experts) + " per layer, " + std::to_string(summary.top_k) + " for each token"});
    table.add({"hidden size", std::to_string(shape.hidden)});
    table.add({"vocabulary", std::to_string(shape.vocabulary)});
    table.add({"context", std::to_string(shape.context_max) + " tokens"});
    table.add({"attention", attention_text(shape)});
    table.add({"bytes in all", rounded_bytes(summary.bytes_total)});
    table.add({"bytes of one expert", rounded_bytes(summary.bytes_per_expert) + ", " + summary.expert_type});
    if (const auto* layout = files.expert_layout())
        table.add({"experts lie in", layout_name(*layout)});
    table.add({"bytes outside experts", rounded_bytes(summary.bytes_dense)});
    table.add({"bytes read per token", rounded_bytes(summary.bytes_active_per_token)});
    for (const auto& [type, bytes] : summary.bytes_by_type)
        table.add({"of type " + type, rounded_bytes(bytes)});
    if (!summary.refusal.empty())
        table.add({"does not run", summary.refusal});
    for (const auto& notice : files.notices())
        table.add({"notice", notice});
    return table.print(colour);
}

result<exit_code> run_inspect(const std::string& wanted, command_context& context) {
    const auto model = find_model(wanted, places_of_models(context.settings.values));
    if (!model)
        return tl::unexpected(model.error());
    const auto files = checkpoint::open(model->folder);
    if (!files)
        return tl::unexpected(files.error());
    const checkpoint_summary summary = summarize(*files);
    const auto printed = context.json ? print_json(inspect_json(*model, *files, summary))
                                      : print_text(inspect_text(*model, *files, summary, context.colour));
    return printed.map([] { return exit_done; });
}

} // namespace

void add_inspect_command(command_line& line) {
    auto wanted = std::make_shared<std::string>();
    CLI::App& command = line.add(line.root(), "inspect", "shapes, precisions and bytes of a model; reads headers only",
                                 [wanted](command_context& context) { return run_inspect(*wanted, context); });
    command.add_option("-m,--model,MODEL", *wanted, "a folder, or a name that `moira list` shows; default: moira-demo")
        ->type_name("MODEL");
}

} // namespace moira
