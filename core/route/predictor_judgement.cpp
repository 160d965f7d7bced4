#include "core/route/predictor_judgement.hpp"

#include <algorithm>
#include <cmath>
#include <list>
#include <vector>

namespace moira {
namespace {

/// Which experts an LRU cache holds.
class recent_experts {
public:
    recent_experts(std::size_t experts, std::size_t slots) : places_(experts, order_.end()), slots_(slots) {}

    bool holds(std::size_t expert) const { return places_[expert] != order_.end(); }

    void use(std::size_t expert) {
        if (slots_ == 0)
            return;
        if (holds(expert)) {
            order_.splice(order_.begin(), order_, places_[expert]);
            return;
        }
        if (order_.size() == slots_) {
            places_[order_.back()] = order_.end();
            order_.pop_back();
        }
        order_.push_front(expert);
        places_[expert] = order_.begin();
    }

private:
    std::list<std::size_t> order_; ///< the newest first
    std::vector<std::list<std::size_t>::iterator> places_;
    std::size_t slots_;
};

class judge {
public:
    judge(trace_predictor& predictor, const route_trace& trace, const judgement_options& options)
        : predictor_(predictor), trace_(trace), options_(options),
          cache_(std::size_t{trace.layers} * trace.experts,
                 static_cast<std::size_t>(std::lround(options.cache_share * trace.layers * trace.experts))) {
        found_.name = predictor.name();
        found_.ranks = {trace.top_k, trace.top_k * 3 / 2, trace.top_k * 2};
    }

    predictor_judgement run() {
        for (std::uint32_t sequence = 0; sequence < trace_.sequences.size(); ++sequence)
            for (std::uint32_t token = 0; token < trace_.sequences[sequence].tokens; ++token) {
                found_.tokens += sequence >= options_.first_sequence;
                for (std::uint32_t layer = 0; layer < trace_.layers; ++layer)
                    visit({sequence, token}, layer);
            }
        return found_;
    }

private:
    std::size_t place(std::uint32_t layer, std::int32_t expert) const {
        return std::size_t{layer} * trace_.experts + static_cast<std::size_t>(expert);
    }

    void visit(route_position at, std::uint32_t layer) {
        const auto chosen = trace_.ids(trace_.sequences[at.sequence], at.token, layer);
        if (layer >= options_.first_layer) {
            predicted_.clear();
            predictor_.predict(at, layer, predicted_);
            if (at.sequence >= options_.first_sequence)
                compare(layer, chosen);
        }
        for (const auto expert : chosen)
            cache_.use(place(layer, expert));
        predictor_.observe(at, layer);
    }

    void compare(std::uint32_t layer, std::span<const std::uint16_t> chosen) {
        found_.chosen += chosen.size();
        for (const auto expert : chosen)
            found_.misses += !cache_.holds(place(layer, expert));
        for (std::size_t index = 0; index < predicted_.size(); ++index) {
            const auto expert = predicted_[index].expert;
            const bool right = std::find(chosen.begin(), chosen.end(), expert) != chosen.end();
            const bool absent = !cache_.holds(place(layer, expert));
            for (std::size_t at = 0; at < judged_ranks; ++at)
                if (index < found_.ranks[at]) {
                    found_.found[at] += right;
                    found_.predicted_absent[at] += absent;
                    found_.absent_found[at] += absent && right;
                }
        }
    }

    trace_predictor& predictor_;
    const route_trace& trace_;
    judgement_options options_;
    recent_experts cache_;
    predictor_judgement found_;
    std::vector<predicted_expert> predicted_;
};

} // namespace

predictor_judgement judge_predictor(trace_predictor& predictor, const route_trace& trace,
                                    const judgement_options& options) {
    return judge(predictor, trace, options).run();
}

} // namespace moira
