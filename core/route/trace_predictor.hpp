#pragma once

#include "core/base/error.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// An expert that a layer will probably choose.
struct predicted_expert {
    std::int32_t expert = 0;
    float probability = 0;
};

/// One token of one sequence of a recording.
struct route_position {
    std::uint32_t sequence = 0, token = 0;
};

/// Predicts on a recording what a layer will choose, as a predictor in an engine would while the recording happens.
/// Asked for positions of several sequences in turn, but within each in order, layer by layer. When it is asked about
/// (token, layer) of a sequence, it may use of that sequence: every layer of the tokens before, and of this token the
/// layers before `layer`; states of `layer` itself come too late. Layers count as in route_trace. One thread.
class trace_predictor {
public:
    virtual ~trace_predictor() = default;
    virtual std::string name() const = 0;

    /// Appends distinct experts of `layer`, the likeliest first, with calibrated probabilities.
    virtual void predict(route_position at, std::uint32_t layer, std::vector<predicted_expert>& into) = 0;

    /// `layer` has chosen what the recording says: for those that learn as they go.
    virtual void observe(route_position at, std::uint32_t layer) { static_cast<void>(at), static_cast<void>(layer); }
};

/// "name" or "name:key=value,key=value".
struct predictor_request {
    std::string name, options;
};
predictor_request parse_predictor(std::string_view text);

/// The predictor that `text` names; it borrows `trace`. Errors: invalid_argument (no such name, options that it does
/// not know).
result<std::unique_ptr<trace_predictor>> make_trace_predictor(std::string_view text, const route_trace& trace);

/// Adds one row's predictions to those of other rows of a step: rows err independently enough, so an expert stays
/// unwanted when every row that names it is wrong. Reused between layers, allocates when it is built.
class prediction_union {
public:
    explicit prediction_union(std::uint32_t experts) : unwanted_(experts, 1.0F) { named_.reserve(experts); }

    void add(std::span<const predicted_expert> row);

    /// All experts that were named, the likeliest first; forgets them. Valid until the next add().
    std::span<const predicted_expert> take();

private:
    std::vector<float> unwanted_; // [experts]: probability that no row wants it; 1: not named
    std::vector<predicted_expert> named_;
    bool taken_ = true;
};

} // namespace moira
