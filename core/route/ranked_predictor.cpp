#include "core/route/ranked_predictor.hpp"

#include "core/route/predictor_file.hpp"

#include <algorithm>
#include <utility>

namespace moira {

std::int32_t predicted_ranks(std::int32_t top_k, std::int32_t experts) noexcept {
    return std::min({2 * top_k, experts, static_cast<std::int32_t>(route_ids_max)});
}

ranked_predictor::ranked_predictor(const route_trace& trace, route_source source)
    : trace_(&trace), source_(source),
      ranks_(static_cast<std::size_t>(
          predicted_ranks(static_cast<std::int32_t>(trace.top_k), static_cast<std::int32_t>(trace.experts)))),
      calibration_(static_cast<std::int32_t>(trace.layers), static_cast<std::int32_t>(ranks_)), scores_(trace.experts),
      open_(trace.sequences.size()) {}

route_context ranked_predictor::context(route_position at) const noexcept {
    const auto width = std::size_t{trace_->layers} * trace_->top_k;
    const auto ids = std::span(trace_->sequences[at.sequence].ids);
    route_context known{ids.subspan(at.token * width, width), {}, {}, at.sequence};
    if (at.token > 0)
        known.previous = ids.subspan((at.token - 1) * width, width);
    return known;
}

void ranked_predictor::predict(route_position at, std::uint32_t layer, std::vector<predicted_expert>& into) {
    auto& open = open_[at.sequence];
    open.ids.clear();
    if (!score(at, layer, scores_))
        return;
    open.token = at.token;
    open.layer = layer;
    open.ids.resize(ranks_);
    best_experts(scores_, open.ids);
    for (std::size_t rank = 0; rank < ranks_; ++rank)
        into.push_back(
            {open.ids[rank], static_cast<float>(calibration_.probability(source_, static_cast<std::int32_t>(layer),
                                                                         static_cast<std::int32_t>(rank)))});
}

void ranked_predictor::observe(route_position at, std::uint32_t layer) {
    auto& open = open_[at.sequence];
    // An observation has room for route_ids_max choices; recordings of more are ranked, not calibrated.
    if (!open.ids.empty() && open.token == at.token && open.layer == layer && trace_->top_k <= route_ids_max) {
        route_observation seen;
        seen.layer = static_cast<std::uint16_t>(layer);
        seen.top_k = static_cast<std::uint16_t>(trace_->top_k);
        seen.ranks = static_cast<std::uint16_t>(ranks_);
        const auto chosen = trace_->ids(trace_->sequences[at.sequence], at.token, layer);
        std::copy(chosen.begin(), chosen.end(), seen.chosen.begin());
        std::copy(open.ids.begin(), open.ids.end(), seen.predicted[static_cast<std::size_t>(source_)].begin());
        seen.mark(source_);
        calibration_.observe(seen);
    }
    open.ids.clear();
    learn(at, layer);
}

namespace {

history_model::dimensions dimensions_of(const route_trace& trace) {
    return {static_cast<std::int32_t>(trace.layers), static_cast<std::int32_t>(trace.experts),
            static_cast<std::int32_t>(trace.top_k)};
}

class context_predictor final : public ranked_predictor {
public:
    context_predictor(const route_trace& trace, route_source source, std::shared_ptr<history_model> model)
        : ranked_predictor(trace, source), source_(source), scorer_(dimensions_of(trace), std::move(model)) {}

    std::string name() const override { return std::string(name_of(source_)); }

protected:
    bool score(route_position at, std::uint32_t layer, std::span<float> scores) override {
        return scorer_.score(source_, static_cast<std::int32_t>(layer), context(at), scores);
    }

    void learn(route_position at, std::uint32_t layer) override {
        const auto chosen = trace().ids(trace().sequences[at.sequence], at.token, layer);
        const auto number = static_cast<std::int32_t>(layer);
        if (auto* model = scorer_.model())
            model->learn(number, context(at), chosen);
        scorer_.observe(number, chosen);
        scorer_.sequences().observe(at.sequence, static_cast<std::int32_t>(at.token), false, number, chosen);
    }

private:
    route_source source_;
    context_scorer scorer_;
};

result<std::unique_ptr<trace_predictor>> make_plain(const predictor_request& request, const route_trace& trace,
                                                    route_source source) {
    if (!request.options.empty())
        return fail(errc::invalid_argument,
                    "predictor '" + request.name + "' has no options, found '" + request.options + "'");
    return std::make_unique<context_predictor>(trace, source, nullptr);
}

} // namespace

std::unique_ptr<trace_predictor> make_history_predictor(const route_trace& trace,
                                                        std::shared_ptr<history_model> model) {
    return std::make_unique<context_predictor>(trace, route_source::history, std::move(model));
}

result<std::unique_ptr<trace_predictor>> make_history_predictor(const predictor_request& request,
                                                                const route_trace& trace) {
    if (request.options.empty()) {
        auto model = history_model::create(dimensions_of(trace));
        if (!model)
            return tl::unexpected(model.error());
        return make_history_predictor(trace, std::move(*model));
    }
    auto trained = read_predictor(request.options);
    if (!trained)
        return tl::unexpected(trained.error());
    if (auto fits = check_subject(request.options, trained->subject, subject_of(trace)); !fits)
        return tl::unexpected(fits.error());
    if (!trained->history)
        return fail(errc::invalid_argument, request.options + ": found " + trained->kind() + ", expected history");
    return make_history_predictor(trace, std::move(trained->history));
}

result<std::unique_ptr<trace_predictor>> make_previous_predictor(const predictor_request& request,
                                                                 const route_trace& trace) {
    return make_plain(request, trace, route_source::previous);
}

result<std::unique_ptr<trace_predictor>> make_prompt_predictor(const predictor_request& request,
                                                               const route_trace& trace) {
    return make_plain(request, trace, route_source::prompt);
}

} // namespace moira
