#include "core/route/context_scorer.hpp"
#include "core/route/heads_predictor.hpp"
#include "core/route/heads_training.hpp"
#include "core/route/predictor_judgement.hpp"
#include "core/route/symmetric_eigen.hpp"

#include <bit>
#include <cmath>
#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

constexpr std::uint32_t layers = 3, experts = 8, top_k = 2, hidden = 16;

std::uint16_t bf16(float value) {
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

/// Two layers ahead, experts are the largest of a linear map of this layer's state, whose rank is `rank`.
route_trace linear_trace(std::uint32_t tokens, std::size_t rank) {
    route_trace trace{layers, experts, top_k, hidden, {1, 2, 3}, {}};
    std::mt19937_64 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> up(experts * rank), down(rank * hidden);
    for (auto* each : {&up, &down})
        for (float& value : *each)
            value = normal(random);
    route_sequence sequence;
    sequence.tokens = tokens;
    std::vector<float> state(hidden), scores(experts);
    for (std::uint32_t token = 0; token < tokens; ++token) {
        for (float& value : state)
            value = std::bit_cast<float>(std::uint32_t{bf16(normal(random))} << 16);
        std::fill(scores.begin(), scores.end(), 0.0F);
        for (std::size_t r = 0; r < rank; ++r) {
            float inner = 0;
            for (std::size_t column = 0; column < hidden; ++column)
                inner += down[r * hidden + column] * state[column];
            for (std::size_t expert = 0; expert < experts; ++expert)
                scores[expert] += up[expert * rank + r] * inner;
        }
        std::vector<std::uint16_t> best(top_k);
        best_experts(scores, best);
        for (std::uint32_t layer = 0; layer < layers; ++layer) {
            sequence.ids.insert(sequence.ids.end(), best.begin(), best.end());
            for (const float value : state)
                sequence.hidden.push_back(bf16(value));
        }
    }
    sequence.weights.assign(sequence.ids.size(), 0.5F);
    trace.sequences.push_back(std::move(sequence));
    return trace;
}

} // namespace

TEST_CASE("heads learn a linear rule, at the rank that it has") {
    const auto trace = linear_trace(4'000, 2); // chance: 0.25
    const auto heads = train_heads(trace);
    REQUIRE(heads);
    CHECK(heads->rank == 2);
    CHECK(heads->layers == 3);
    for (const std::int32_t ahead : {1, 2}) {
        CAPTURE(ahead);
        const auto predictor = make_heads_predictor(trace, std::make_shared<const linear_heads>(*heads), ahead);
        judgement_options options;
        options.first_layer = static_cast<std::uint32_t>(ahead);
        CHECK(judge_predictor(*predictor, trace, options).recall(0) > 0.9);
    }
    CHECK(heads->find(0, 1) != nullptr);
    CHECK(heads->find(1, 2) == nullptr);
    CHECK(heads->find(-1, 1) == nullptr);
    CHECK(heads->find(0, 3) == nullptr);
}

TEST_CASE("training does not depend on how it is spread over threads") {
    const auto trace = linear_trace(500, 3);
    const auto plain = train_heads(trace);
    heads_training_options backwards;
    backwards.for_each = [](std::size_t count, const std::function<void(std::size_t)>& body) {
        for (std::size_t i = count; i > 0; --i)
            body(i - 1);
    };
    const auto other = train_heads(trace, backwards);
    REQUIRE(plain);
    REQUIRE(other);
    REQUIRE(plain->rank == other->rank);
    for (std::size_t head = 0; head < plain->heads.size(); ++head) {
        CHECK(plain->heads[head].up == other->heads[head].up);
        CHECK(plain->heads[head].down == other->heads[head].down);
        CHECK(plain->heads[head].bias == other->heads[head].bias);
    }
}

TEST_CASE("a head scores as its matrix does") {
    const auto trace = linear_trace(200, 3);
    const auto heads = train_heads(trace);
    REQUIRE(heads);
    const auto& head = *heads->find(0, 1);
    const auto matrix = heads->matrix(head);
    std::vector<float> state(hidden, 0.0F), scores(experts);
    state[3] = 2;
    heads->score(head, state, scores);
    for (std::size_t expert = 0; expert < experts; ++expert)
        CHECK(scores[expert] == doctest::Approx(head.bias[expert] + 2 * matrix[expert * hidden + 3]).epsilon(1e-4));
}

TEST_CASE("recordings that cannot be trained on are refused") {
    auto trace = linear_trace(10, 2);
    CHECK(train_heads(trace).error().code == errc::invalid_argument); // too few tokens
    trace = linear_trace(100, 2);
    trace.hidden = 0;
    CHECK(train_heads(trace).error().code == errc::invalid_argument);
}

TEST_CASE("the router of the next layer, asked early, is right where states do not change between layers") {
    const auto trace = linear_trace(300, 2);
    gate_weights gates{experts, hidden, false, {}, {}, {}};
    const auto heads = train_heads(trace);
    REQUIRE(heads);
    // The learnt map stands for the routers; norms of other scales are undone.
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
        const float scale = 1.0F + static_cast<float>(layer);
        auto router = heads->matrix(*heads->find(0, 1));
        for (float& value : router)
            value /= scale;
        gates.routers.push_back(router);
        gates.norms.emplace_back(hidden, scale);
        gates.biases.push_back(heads->find(0, 1)->bias);
    }
    const auto gate = judge_predictor(*make_gate_predictor(trace, gates, 1), trace);
    const auto learnt =
        judge_predictor(*make_heads_predictor(trace, std::make_shared<const linear_heads>(*heads), 1), trace);
    CHECK(gate.recall(0) > 0.6);
    CHECK(gate.name == "gate");
    CHECK(learnt.name == "heads");
}

TEST_CASE("eigenvectors are orthogonal and come in falling order") {
    constexpr std::size_t n = 6;
    std::mt19937_64 random(3);
    std::vector<double> matrix(n * n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j <= i; ++j)
            matrix[i * n + j] = matrix[j * n + i] = static_cast<double>(random() % 200) / 10 - 10;
    const auto vectors = symmetric_eigenvectors(matrix, n);
    double last = 1e9;
    for (std::size_t v = 0; v < n; ++v) {
        double value = 0, residual = 0;
        std::vector<double> product(n, 0.0);
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = 0; j < n; ++j)
                product[i] += matrix[i * n + j] * vectors[v * n + j];
            value += product[i] * vectors[v * n + i];
        }
        for (std::size_t i = 0; i < n; ++i)
            residual += std::abs(product[i] - value * vectors[v * n + i]);
        CHECK(residual < 1e-6);
        CHECK(value <= last + 1e-9);
        last = value;
        for (std::size_t w = 0; w < n; ++w) {
            double dot = 0;
            for (std::size_t i = 0; i < n; ++i)
                dot += vectors[v * n + i] * vectors[w * n + i];
            CHECK(dot == doctest::Approx(v == w ? 1.0 : 0.0).epsilon(1e-9));
        }
    }
}
