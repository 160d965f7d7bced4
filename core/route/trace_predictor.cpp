#include "core/route/trace_predictor.hpp"

#include "core/route/heads_predictor.hpp"
#include "core/route/ranked_predictor.hpp"
#include "core/route/scripted_predictor.hpp"

#include <algorithm>
#include <array>

namespace moira {
namespace {

struct predictor_entry {
    std::string_view name;
    result<std::unique_ptr<trace_predictor>> (*make)(const predictor_request& request, const route_trace& trace);
};

/// A new predictor is a line here.
constexpr std::array predictor_entries{
    predictor_entry{"oracle", &make_scripted_predictor},   predictor_entry{"scripted", &make_scripted_predictor},
    predictor_entry{"heads", &make_heads_predictor},       predictor_entry{"history", &make_history_predictor},
    predictor_entry{"previous", &make_previous_predictor}, predictor_entry{"prompt", &make_prompt_predictor},
};

/// Probabilities below 1, so that an expert with probability 1 still counts as named.
constexpr float probability_max = 0.9999F;

} // namespace

predictor_request parse_predictor(std::string_view text) {
    const auto colon = text.find(':');
    if (colon == std::string_view::npos)
        return {std::string(text), {}};
    return {std::string(text.substr(0, colon)), std::string(text.substr(colon + 1))};
}

result<std::unique_ptr<trace_predictor>> make_trace_predictor(std::string_view text, const route_trace& trace) {
    const auto request = parse_predictor(text);
    for (const auto& entry : predictor_entries)
        if (entry.name == request.name)
            return entry.make(request, trace);
    std::string known;
    for (const auto& entry : predictor_entries)
        known += (known.empty() ? "" : ", ") + std::string(entry.name);
    return fail(errc::invalid_argument, "no predictor is called '" + request.name + "'; there are " + known);
}

void prediction_union::add(std::span<const predicted_expert> row) {
    if (taken_)
        named_.clear();
    taken_ = false;
    for (const auto& predicted : row) {
        auto& unwanted = unwanted_[static_cast<std::size_t>(predicted.expert)];
        if (unwanted == 1.0F)
            named_.push_back({predicted.expert, 0.0F});
        // Never quite 1 again, so that nobody is named twice.
        unwanted *= 1.0F - std::clamp(predicted.probability, 1.0F - probability_max, probability_max);
    }
}

std::span<const predicted_expert> prediction_union::take() {
    if (taken_)
        return {};
    taken_ = true;
    for (auto& predicted : named_) {
        auto& unwanted = unwanted_[static_cast<std::size_t>(predicted.expert)];
        predicted.probability = 1.0F - unwanted;
        unwanted = 1.0F;
    }
    std::sort(named_.begin(), named_.end(), [](const predicted_expert& a, const predicted_expert& b) {
        return a.probability > b.probability || (a.probability == b.probability && a.expert < b.expert);
    });
    return named_;
}

} // namespace moira
