#include "core/model/checkpoint.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/text_table.hpp"

namespace moira {

namespace {

struct listed_model {
    found_model model;
    result<checkpoint_summary> summary;
};

// A broken model is shown with what is wrong: a list that leaves it out helps nobody to find it.
std::vector<listed_model> summarized_models(const model_places& places) {
    std::vector<listed_model> listed;
    for (auto& model : list_models(places)) {
        auto opened = checkpoint::open(model.folder);
        auto summary = opened.map([](const checkpoint& files) { return summarize(files); });
        listed.push_back({std::move(model), std::move(summary)});
    }
    return listed;
}

nlohmann::ordered_json model_json(const listed_model& listed) {
    nlohmann::ordered_json json{
        {"name", listed.model.name}, {"path", listed.model.folder.string()}, {"place", listed.model.place}};
    if (listed.summary) {
        json["architecture"] = listed.summary->architecture;
        json["bytes_total"] = listed.summary->bytes_total;
        json["layers"] = listed.summary->layers;
        json["experts"] = listed.summary->experts;
        json["top_k"] = listed.summary->top_k;
    } else {
        json["error"] = {{"code", describe(listed.summary.error().code).name},
                         {"message", listed.summary.error().message}};
    }
    return json;
}

result<exit_code> run_list(command_context& context) {
    const auto models = summarized_models(places_of_models(context.settings.values));
    if (context.json) {
        auto rows = nlohmann::ordered_json::array();
        for (const auto& listed : models)
            rows.push_back(model_json(listed));
        return print_json(rows).map([] { return exit_done; });
    }
    text_table table({"NAME", "ARCHITECTURE", "EXPERTS", "SIZE", "FOUND IN"});
    for (const auto& [model, summary] : models) {
        if (summary)
            table.add({model.name, summary->architecture,
                       std::to_string(summary->experts) + " x " + std::to_string(summary->layers) + " layers",
                       rounded_bytes(summary->bytes_total), model.place});
        else
            table.add({model.name, "cannot be run: " + summary.error().message, "", "", model.place});
    }
    return print_text(models.empty() ? "no model found; model.path adds folders\n" : table.print(context.colour))
        .map([] { return exit_done; });
}

} // namespace

void add_list_command(command_line& line) {
    line.add(line.root(), "list", "models found, with architecture and size", &run_list);
}

} // namespace moira
