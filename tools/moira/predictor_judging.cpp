#include "tools/moira/predictor_judging.hpp"

#include "core/execute/gate_weights.hpp"
#include "core/execute/route_heads.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace moira {

namespace {

bool fits(const model_shape& shape, const route_trace& trace) {
    return shape.moe_layers() == static_cast<std::int32_t>(trace.layers) &&
           shape.moe.experts == static_cast<std::int32_t>(trace.experts) &&
           shape.moe.top_k == static_cast<std::int32_t>(trace.top_k) &&
           (trace.hidden == 0 || shape.hidden == static_cast<std::int32_t>(trace.hidden));
}

/// Copies of weights: the judged history must not go on from what another run taught it.
std::shared_ptr<history_model> copy_of(const history_model& model) {
    auto made = history_model::create(model.shape());
    if (!made)
        return nullptr;
    for (std::int32_t layer = 0; layer < model.shape().layers; ++layer)
        (*made)->assign(layer, model.weights(layer), model.rows(layer));
    return std::move(*made);
}

using predictor_list = std::vector<std::unique_ptr<trace_predictor>>;

result<predictor_list> make_predictors(const route_trace& trace, const recorded_model& model,
                                       const trained_predictor* trained) {
    predictor_list all;
    for (const std::string name : {"oracle", "previous", "prompt", "history"}) {
        auto made = make_trace_predictor(name, trace);
        if (!made)
            return tl::unexpected(made.error());
        all.push_back(std::move(*made));
    }
    if (trained && trained->history)
        all.back() = make_history_predictor(trace, copy_of(*trained->history));
    for (std::int32_t ahead = 1; trace.hidden > 0 && ahead <= heads_ahead_max; ++ahead) {
        if (model.gates)
            all.push_back(make_gate_predictor(trace, *model.gates, ahead));
        if (trained && trained->heads)
            all.push_back(make_heads_predictor(trace, std::make_shared<const linear_heads>(*trained->heads), ahead));
    }
    return all;
}

std::string percent(double share) {
    char text[16];
    std::snprintf(text, sizeof text, "%.1f", 100 * share);
    return text;
}

template <class Figure>
std::string at_ranks(Figure figure) {
    return percent(figure(0)) + " / " + percent(figure(1)) + " / " + percent(figure(2));
}

} // namespace

result<recorded_model> find_recorded_model(const std::string& wanted, const route_trace& trace,
                                           const command_context& context) {
    recorded_model made{subject_of(trace), std::nullopt};
    const auto found = find_model(wanted, places_of_models(context.settings.values));
    if (!found)
        return wanted.empty() ? result<recorded_model>(made) : tl::unexpected(found.error());
    auto opened = checkpoint::open(found->folder);
    if (!opened)
        return wanted.empty() ? result<recorded_model>(made) : tl::unexpected(opened.error());
    if (!fits(opened->shape(), trace)) {
        if (wanted.empty())
            return made;
        return fail(errc::invalid_argument,
                    found->name + " has other layers, experts or dimensions than the recording: name the model that it "
                                  "was recorded with");
    }
    auto gates = read_gate_weights(*opened);
    if (!gates)
        return tl::unexpected(gates.error());
    auto fingerprint = router_fingerprint(*opened);
    if (!fingerprint)
        return tl::unexpected(fingerprint.error());
    made.subject = subject_of(opened->shape(), found->name, *fingerprint);
    made.gates = std::move(*gates);
    return made;
}

result<std::vector<predictor_judgement>> judge_predictors(const route_trace& trace, const recorded_model& model,
                                                          const trained_predictor* trained,
                                                          const judgement_options& options) {
    auto all = make_predictors(trace, model, trained);
    if (!all)
        return tl::unexpected(all.error());
    std::vector<predictor_judgement> judged;
    for (const auto& predictor : *all) {
        auto how = options;
        how.first_layer = predictor->name() == "gate2" || predictor->name() == "heads2" ? 2 : 1;
        judged.push_back(judge_predictor(*predictor, trace, how));
    }
    auto& control = judged.front();
    control.name = "control";
    if (control.recall(0) != 1.0 && control.chosen > 0)
        return fail(errc::internal, "the control recalls " + percent(control.recall(0)) + " %, expected 100 %");
    return judged;
}

nlohmann::ordered_json judgement_json(const predictor_judgement& judged) {
    nlohmann::ordered_json recall = nlohmann::ordered_json::array(), covered = recall, precision = recall;
    for (std::size_t at = 0; at < judged_ranks; ++at) {
        recall.push_back(judged.recall(at));
        covered.push_back(judged.misses_covered(at));
        precision.push_back(judged.precision_absent(at));
    }
    return {{"predictor", judged.name},
            {"tokens", judged.tokens},
            {"ranks", judged.ranks},
            {"recall", std::move(recall)},
            {"misses_covered", std::move(covered)},
            {"precision_absent", std::move(precision)},
            {"miss_rate", judged.miss_rate()}};
}

std::string judgement_text(const std::vector<predictor_judgement>& judged, bool colour) {
    if (judged.empty())
        return {};
    const auto& ranks = judged.front().ranks;
    text_table table({"predictor",
                      "recall % at " + std::to_string(ranks[0]) + " / " + std::to_string(ranks[1]) + " / " +
                          std::to_string(ranks[2]),
                      "misses covered %", "precision among absent %"});
    for (const auto& each : judged)
        table.add({each.name, at_ranks([&](std::size_t at) { return each.recall(at); }),
                   at_ranks([&](std::size_t at) { return each.misses_covered(at); }),
                   at_ranks([&](std::size_t at) { return each.precision_absent(at); })});
    return table.print(colour) + std::to_string(judged.front().tokens) + " tokens; the cache misses " +
           percent(judged.front().miss_rate()) + " % of what is chosen\n";
}

} // namespace moira
