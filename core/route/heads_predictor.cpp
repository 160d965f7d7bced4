#include "core/route/heads_predictor.hpp"

#include "core/route/predictor_file.hpp"

#include <bit>
#include <cmath>
#include <utility>

namespace moira {
namespace {

/// Scores a layer by what the router of an earlier one saw.
class state_predictor : public ranked_predictor {
protected:
    state_predictor(const route_trace& trace, route_source source, std::int32_t ahead)
        : ranked_predictor(trace, source), ahead_(static_cast<std::uint32_t>(ahead)), state_(trace.hidden) {}

    bool score(route_position at, std::uint32_t layer, std::span<float> scores) final {
        if (layer < ahead_)
            return false;
        const auto from = layer - ahead_;
        const auto& hidden = trace().sequences[at.sequence].hidden;
        const auto begin = (std::size_t{at.token} * trace().layers + from) * trace().hidden;
        for (std::size_t column = 0; column < state_.size(); ++column)
            state_[column] = std::bit_cast<float>(std::uint32_t{hidden[begin + column]} << 16);
        score_state(from, state_, scores);
        return true;
    }

    virtual void score_state(std::uint32_t from, std::span<const float> state, std::span<float> scores) = 0;

    std::int32_t ahead() const noexcept { return static_cast<std::int32_t>(ahead_); }

private:
    std::uint32_t ahead_;
    std::vector<float> state_;
};

class heads_predictor final : public state_predictor {
public:
    heads_predictor(const route_trace& trace, std::shared_ptr<const linear_heads> heads, std::int32_t ahead)
        : state_predictor(trace, ahead == 1 ? route_source::heads : route_source::heads2, ahead),
          heads_(std::move(heads)) {}

    std::string name() const override { return ahead() == 1 ? "heads" : "heads2"; }

protected:
    void score_state(std::uint32_t from, std::span<const float> state, std::span<float> scores) override {
        heads_->score(*heads_->find(static_cast<std::int32_t>(from), ahead()), state, scores);
    }

private:
    std::shared_ptr<const linear_heads> heads_;
};

class gate_predictor final : public state_predictor {
public:
    gate_predictor(const route_trace& trace, const gate_weights& gates, std::int32_t ahead)
        : state_predictor(trace, ahead == 1 ? route_source::early : route_source::gate2, ahead),
          sigmoid_(gates.sigmoid) {
        for (std::size_t from = 0; from + static_cast<std::size_t>(ahead) < gates.routers.size(); ++from) {
            const auto to = from + static_cast<std::size_t>(ahead);
            auto matrix = gates.routers[to];
            for (std::size_t i = 0; i < matrix.size(); ++i) {
                const auto column = i % static_cast<std::size_t>(gates.hidden);
                const float undone = gates.norms[from][column];
                matrix[i] *= undone == 0 ? 0.0F : gates.norms[to][column] / undone;
            }
            matrices_.push_back(std::move(matrix));
            biases_.push_back(gates.biases.empty() ? std::vector<float>() : gates.biases[to]);
        }
    }

    std::string name() const override { return ahead() == 1 ? "gate" : "gate2"; }

protected:
    void score_state(std::uint32_t from, std::span<const float> state, std::span<float> scores) override {
        const auto& matrix = matrices_[from];
        for (std::size_t expert = 0; expert < scores.size(); ++expert) {
            float sum = 0;
            for (std::size_t column = 0; column < state.size(); ++column)
                sum += matrix[expert * state.size() + column] * state[column];
            scores[expert] = sigmoid_ ? 1.0F / (1.0F + std::exp(-sum)) : sum;
            if (!biases_[from].empty())
                scores[expert] += biases_[from][expert];
        }
    }

private:
    bool sigmoid_;
    std::vector<std::vector<float>> matrices_, biases_;
};

} // namespace

std::unique_ptr<trace_predictor> make_heads_predictor(const route_trace& trace,
                                                      std::shared_ptr<const linear_heads> heads, std::int32_t ahead) {
    return std::make_unique<heads_predictor>(trace, std::move(heads), ahead);
}

std::unique_ptr<trace_predictor> make_gate_predictor(const route_trace& trace, const gate_weights& gates,
                                                     std::int32_t ahead) {
    return std::make_unique<gate_predictor>(trace, gates, ahead);
}

result<std::unique_ptr<trace_predictor>> make_heads_predictor(const predictor_request& request,
                                                              const route_trace& trace) {
    if (trace.hidden == 0)
        return fail(errc::invalid_argument, "the recording holds no states, which heads read: record it with --hidden");
    if (request.options.empty())
        return fail(errc::invalid_argument, "found heads, expected heads:FILE of `moira predictor train`");
    auto trained = read_predictor(request.options);
    if (!trained)
        return tl::unexpected(trained.error());
    if (auto fits = check_subject(request.options, trained->subject, subject_of(trace)); !fits)
        return tl::unexpected(fits.error());
    if (!trained->heads)
        return fail(errc::invalid_argument, request.options + ": found " + trained->kind() + ", expected heads");
    return make_heads_predictor(trace, std::make_shared<const linear_heads>(std::move(*trained->heads)), 1);
}

} // namespace moira
