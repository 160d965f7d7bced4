#include "core/evaluate/route_recorder.hpp"

#include "core/evaluate/prompt_pass.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

namespace moira {

namespace {

/// To nearest, ties to even; a NaN stays one.
std::uint16_t to_bf16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (std::isnan(value))
        return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

/// Copies what a step's layers show to the places of its rows.
class routing_keeper final : public forward_observer {
public:
    routing_keeper(const route_trace& trace, std::span<const std::int32_t> recorded, std::size_t first_row,
                   route_sequence& sequence)
        : trace_(trace), recorded_(recorded), first_row_(first_row), sequence_(sequence) {}

    void hidden(std::int32_t, std::span<const float>) override {}
    void logits(std::int32_t, std::span<const float>) override {}

    void routing(std::int32_t layer, std::span<const std::int32_t> ids) override {
        // Ids have been checked against the number of experts, which fits 16 bits.
        place(layer, trace_.top_k, ids,
              [this](std::size_t at, std::int32_t id) { sequence_.ids[at] = static_cast<std::uint16_t>(id); });
    }

    bool wants_gate_weights() const override { return true; }

    void gate_weights(std::int32_t layer, std::span<const float> weights) override {
        place(layer, trace_.top_k, weights, [this](std::size_t at, float weight) { sequence_.weights[at] = weight; });
    }

    bool wants_router_inputs() const override { return trace_.hidden > 0; }

    void router_input(std::int32_t layer, std::span<const float> rows) override {
        place(layer, trace_.hidden, rows,
              [this](std::size_t at, float value) { sequence_.hidden[at] = to_bf16(value); });
    }

private:
    template <class T, class Put>
    void place(std::int32_t layer, std::size_t width, std::span<const T> values, Put put) {
        const auto number = layer < 0 || static_cast<std::size_t>(layer) >= recorded_.size()
                                ? -1
                                : recorded_[static_cast<std::size_t>(layer)];
        if (number < 0)
            return;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const auto row = first_row_ + i / width;
            put((row * trace_.layers + static_cast<std::size_t>(number)) * width + i % width, values[i]);
        }
    }

    const route_trace& trace_;
    std::span<const std::int32_t> recorded_;
    std::size_t first_row_;
    route_sequence& sequence_;
};

} // namespace

result<route_recorder> route_recorder::create(engine& model, bool with_states) {
    const auto& shape = model.shape();
    route_recorder made(model);
    auto& trace = made.trace_;
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        const bool routes = shape.layer_is_moe[static_cast<std::size_t>(layer)];
        made.recorded_.push_back(routes ? static_cast<std::int32_t>(trace.layer_numbers.size()) : -1);
        if (routes)
            trace.layer_numbers.push_back(static_cast<std::uint16_t>(layer));
    }
    trace.layers = static_cast<std::uint32_t>(trace.layer_numbers.size());
    trace.experts = static_cast<std::uint32_t>(shape.moe.experts);
    trace.top_k = static_cast<std::uint32_t>(shape.moe.top_k);
    trace.hidden = with_states ? static_cast<std::uint32_t>(shape.hidden) : 0;
    if (trace.layers < 1 || shape.layers > static_cast<std::int32_t>(route_trace_layers_max))
        return fail(errc::unsupported, "a model of " + std::to_string(trace.layers) +
                                           " layers with experts has no "
                                           "routing that could be recorded");
    if (trace.hidden > route_trace_hidden_max)
        return fail(errc::unsupported, "a recording holds states of at most " + std::to_string(route_trace_hidden_max) +
                                           " dimensions: leave --hidden out");
    if (trace.experts > route_trace_experts_max || trace.top_k > route_trace_top_k_max)
        return fail(errc::unsupported, "a recording holds at most " + std::to_string(route_trace_experts_max) +
                                           " experts, top " + std::to_string(route_trace_top_k_max));
    return made;
}

std::uint64_t route_recorder::bytes_per_token() const noexcept {
    return std::uint64_t{trace_.layers} *
           (trace_.top_k * (sizeof(std::uint16_t) + sizeof(float)) + trace_.hidden * sizeof(std::uint16_t));
}

/// The token that the model expects behind the last of the rows.
result<token_id> route_recorder::run_rows(std::span<const token_id> ids, std::int32_t first, std::int32_t count,
                                          route_sequence& sequence) {
    auto plan = plan_prompt_rows(ids, first, count, model_->limits());
    plan.samples.erase(plan.samples.begin(), plan.samples.end() - 1);
    const auto choices = static_cast<std::size_t>(first + count) * trace_.layers * trace_.top_k;
    sequence.ids.resize(choices);
    sequence.weights.resize(choices);
    sequence.hidden.resize(static_cast<std::size_t>(first + count) * trace_.layers * trace_.hidden);
    routing_keeper observer(trace_, recorded_, static_cast<std::size_t>(first), sequence);
    const auto outcome = model_->run_step(plan, &observer);
    if (outcome.failure)
        return tl::unexpected(*outcome.failure);
    sequence.tokens = static_cast<std::uint32_t>(first + count);
    return outcome.samples.back().token;
}

result<std::vector<token_id>> route_recorder::record(std::span<const token_id> ids, std::uint32_t prompt_tokens,
                                                     std::int32_t generate, const std::function<bool()>& interrupted) {
    if (auto fine = check_prompt(*model_, ids); !fine)
        return tl::unexpected(fine.error());
    const auto& limits = model_->limits();
    const auto context_max = std::min(limits.context_max, limits.pages * limits.page_tokens);
    const auto tokens_max = static_cast<std::size_t>(
        std::min<std::int64_t>(context_max, static_cast<std::int64_t>(ids.size()) + std::max(generate, 0)));
    const auto bytes = tokens_max * bytes_per_token();
    if (bytes > kept_bytes_max - kept_bytes_)
        return fail(errc::out_of_memory, "a recording of more than " + std::to_string(kept_bytes_max) +
                                             " bytes: record fewer tokens at once");
    const auto stopped = [&interrupted] { return interrupted && interrupted(); };
    std::vector<token_id> text(ids.begin(), ids.end()), generated;
    route_sequence sequence;
    token_id next = 0;
    const auto given = static_cast<std::int32_t>(ids.size());
    for (std::int32_t first = 0; first < given && !(first > 0 && stopped()); first += limits.rows_max) {
        auto expected = run_rows(text, first, std::min(limits.rows_max, given - first), sequence);
        if (!expected)
            return tl::unexpected(expected.error());
        next = *expected;
    }
    const auto& ends = model_->shape().eos;
    while (static_cast<std::int32_t>(generated.size()) < generate && sequence.tokens == text.size() && !stopped()) {
        generated.push_back(next);
        if (std::find(ends.begin(), ends.end(), next) != ends.end() || text.size() == tokens_max)
            break;
        text.push_back(next);
        auto expected = run_rows(text, static_cast<std::int32_t>(text.size()) - 1, 1, sequence);
        if (!expected)
            return tl::unexpected(expected.error());
        next = *expected;
    }
    sequence.prompt_tokens = std::min(prompt_tokens, sequence.tokens);
    kept_bytes_ += sequence.tokens * bytes_per_token();
    trace_.sequences.push_back(std::move(sequence));
    return generated;
}

} // namespace moira
