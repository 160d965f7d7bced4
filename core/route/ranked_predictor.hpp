#pragma once

#include "core/route/context_scorer.hpp"
#include "core/route/route_calibration.hpp"
#include "core/route/trace_predictor.hpp"

#include <memory>
#include <string>
#include <vector>

namespace moira {

/// Experts predicted per row: twice as many as are chosen, as far as there are so many and an observation holds them.
std::int32_t predicted_ranks(std::int32_t top_k, std::int32_t experts) noexcept;

/// A predictor on a recording that ranks experts by score; their probabilities are what each (layer, rank) was worth so
/// far, as in the engine. Borrows the trace.
class ranked_predictor : public trace_predictor {
public:
    void predict(route_position at, std::uint32_t layer, std::vector<predicted_expert>& into) final;
    void observe(route_position at, std::uint32_t layer) final;

    const route_quality& quality() const noexcept { return calibration_.quality(source_); }

protected:
    ranked_predictor(const route_trace& trace, route_source source);

    const route_trace& trace() const noexcept { return *trace_; }
    route_context context(route_position at) const noexcept;

    /// Into `scores` [experts]; false: nothing is known.
    virtual bool score(route_position at, std::uint32_t layer, std::span<float> scores) = 0;
    virtual void learn(route_position, std::uint32_t) {}

private:
    /// The last prediction of a sequence, until its layer has chosen.
    struct open_prediction {
        std::uint32_t token = 0, layer = 0;
        std::vector<std::uint16_t> ids; ///< empty: none
    };

    const route_trace* trace_;
    route_source source_;
    std::size_t ranks_;
    route_calibration calibration_;
    std::vector<float> scores_;
    std::vector<open_prediction> open_; ///< [sequences]
};

/// Goes on learning `model`. Precondition: it has the trace's dimensions.
std::unique_ptr<trace_predictor> make_history_predictor(const route_trace& trace, std::shared_ptr<history_model> model);

/// `history` (options: empty learns as it goes, or a file of `moira predictor train`), `previous`, `prompt`, for
/// make_trace_predictor. Errors: invalid_argument (options they do not have), those of the file.
result<std::unique_ptr<trace_predictor>> make_history_predictor(const predictor_request& request,
                                                                const route_trace& trace);
result<std::unique_ptr<trace_predictor>> make_previous_predictor(const predictor_request& request,
                                                                 const route_trace& trace);
result<std::unique_ptr<trace_predictor>> make_prompt_predictor(const predictor_request& request,
                                                               const route_trace& trace);

} // namespace moira
