#include "core/route/history_learner.hpp"
#include "core/route/predictor_judgement.hpp"
#include "core/route/ranked_predictor.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <random>
#include <thread>

using namespace moira;

namespace {

constexpr std::uint32_t layers = 4, experts = 12, top_k = 2;

/// Routing with a known rule: layer 0 draws a pair, and every further layer follows the pair of the layer before with
/// probability `faith`, else draws one.
route_trace markov_trace(std::uint32_t sequences, std::uint32_t tokens, double faith, std::uint64_t seed) {
    route_trace trace{layers, experts, top_k, 0, {0, 1, 2, 3}, {}};
    std::mt19937_64 random(seed);
    const auto pair = [](std::uint64_t number) {
        const auto first = static_cast<std::uint16_t>(number % (experts / 2));
        return std::array<std::uint16_t, 2>{first, static_cast<std::uint16_t>(experts / 2 + first)};
    };
    for (std::uint32_t s = 0; s < sequences; ++s) {
        route_sequence sequence;
        sequence.tokens = tokens;
        for (std::uint32_t token = 0; token < tokens; ++token) {
            std::uint64_t state = random() % (experts / 2);
            for (std::uint32_t layer = 0; layer < layers; ++layer) {
                if (layer > 0) {
                    const bool follows = static_cast<double>(random() % 1'000) < 1'000 * faith;
                    state = follows ? (state * 5 + layer) % (experts / 2) : random() % (experts / 2);
                }
                const auto chosen = pair(state);
                sequence.ids.insert(sequence.ids.end(), chosen.begin(), chosen.end());
            }
        }
        sequence.weights.assign(sequence.ids.size(), 0.5F);
        trace.sequences.push_back(std::move(sequence));
    }
    return trace;
}

predictor_judgement judged(const std::string& name, const route_trace& trace, std::uint32_t first_sequence) {
    auto predictor = make_trace_predictor(name, trace);
    REQUIRE(predictor);
    judgement_options options;
    options.first_sequence = first_sequence;
    return judge_predictor(**predictor, trace, options);
}

} // namespace

TEST_CASE("routing that follows a rule is learnt to the rate at which anybody could predict it") {
    const auto trace = markov_trace(8, 400, 0.8, 1);
    // Right when the rule holds, and by chance when it does not.
    const double best = 0.8 + 0.2 / (experts / 2);
    const auto history = judged("history", trace, 4);
    CHECK(history.tokens == 1'600);
    CHECK(history.recall(0) == doctest::Approx(best).epsilon(0.02));
    CHECK(history.recall(0) <= history.recall(1));
    CHECK(history.recall(1) <= history.recall(2));
    // The token before says nothing here.
    CHECK(judged("previous", trace, 4).recall(0) < 0.3);
}

TEST_CASE("probabilities beside predictions are the rates at which they come true") {
    const auto trace = markov_trace(8, 400, 0.8, 2);
    auto predictor = make_trace_predictor("history", trace);
    REQUIRE(predictor);
    double promised = 0, kept = 0;
    std::vector<predicted_expert> predicted;
    for (std::uint32_t sequence = 0; sequence < 8; ++sequence)
        for (std::uint32_t token = 0; token < 400; ++token)
            for (std::uint32_t layer = 0; layer < layers; ++layer) {
                predicted.clear();
                if (layer > 0)
                    (*predictor)->predict({sequence, token}, layer, predicted);
                const auto chosen = trace.ids(trace.sequences[sequence], token, layer);
                for (const auto& each : predicted)
                    if (sequence >= 2) {
                        CHECK(each.probability >= 0);
                        CHECK(each.probability <= 1);
                        promised += static_cast<double>(each.probability);
                        kept += static_cast<double>(std::count(chosen.begin(), chosen.end(), each.expert));
                    }
                (*predictor)->observe({sequence, token}, layer);
            }
    CHECK(promised == doctest::Approx(kept).epsilon(0.03));
}

TEST_CASE("with little history the previous token speaks") {
    const auto trace = markov_trace(1, 3, 1.0, 3);
    auto history = make_trace_predictor("history", trace), previous = make_trace_predictor("previous", trace);
    REQUIRE(history);
    REQUIRE(previous);
    std::vector<predicted_expert> a, b;
    for (std::uint32_t token = 0; token < 3; ++token)
        for (std::uint32_t layer = 0; layer < layers; ++layer) {
            a.clear();
            b.clear();
            (*history)->predict({0, token}, layer, a);
            (*previous)->predict({0, token}, layer, b);
            REQUIRE(a.size() == b.size());
            for (std::size_t i = 0; i < a.size(); ++i)
                CHECK(a[i].expert == b[i].expert);
            if (token > 0)
                CHECK(a.front().expert == trace.ids(trace.sequences[0], token - 1, layer)[0]);
            (*history)->observe({0, token}, layer);
            (*previous)->observe({0, token}, layer);
        }
}

TEST_CASE("the control recalls everything, covers every miss and is never wrong at k") {
    const auto trace = markov_trace(2, 200, 0.5, 4);
    const auto control = judged("oracle", trace, 0);
    CHECK(control.recall(0) == 1.0);
    CHECK(control.misses > 0);
    CHECK(control.misses_covered(0) == 1.0);
    CHECK(control.precision_absent(0) == 1.0);
}

TEST_CASE("what observations teach is what the recording teaches, whatever the rows of a step are") {
    const auto trace = markov_trace(2, 300, 1.0, 5);
    auto made = history_model::create({layers, experts, top_k});
    REQUIRE(made);
    const std::shared_ptr<history_model> model = std::move(*made);
    // The model's layer 0 is dense; two sequences step together.
    history_learner learner(model, routing_layers({false, true, true, true, true}), 16);
    for (std::uint32_t token = 0; token < 300; ++token)
        for (std::uint32_t layer = 0; layer < layers; ++layer)
            for (std::uint32_t sequence = 0; sequence < 2; ++sequence) {
                route_observation seen;
                seen.step = token;
                seen.layer = static_cast<std::uint16_t>(layer + 1);
                seen.top_k = top_k;
                seen.slot = static_cast<std::int32_t>(sequence * 1'000 + token);
                seen.previous_slot = token == 0 ? -1 : seen.slot - 1;
                const auto chosen = trace.ids(trace.sequences[sequence], token, layer);
                std::copy(chosen.begin(), chosen.end(), seen.chosen.begin());
                learner.observe(seen);
            }
    std::vector<float> scores(experts);
    std::size_t right = 0;
    for (std::uint32_t token = 250; token < 300; ++token) {
        const auto width = std::size_t{layers} * top_k;
        const auto all = std::span<const std::uint16_t>(trace.sequences[0].ids);
        REQUIRE(model->score(2, {all.subspan(token * width, width), all.subspan((token - 1) * width, width)}, scores));
        std::vector<std::uint16_t> best(top_k);
        best_experts(scores, best);
        const auto chosen = trace.ids(trace.sequences[0], token, 2);
        right += std::is_permutation(best.begin(), best.end(), chosen.begin());
    }
    CHECK(right == 50);
}

TEST_CASE("observations that name nothing of the model are ignored") {
    auto made = history_model::create({2, 4, 1});
    REQUIRE(made);
    const std::shared_ptr<history_model> model = std::move(*made);
    history_learner learner(model, routing_layers({true, false, true}), 4);
    route_observation seen;
    seen.top_k = 1;
    learner.observe(seen); // no slot
    seen.slot = 0;
    seen.layer = 1;
    learner.observe(seen); // dense
    seen.layer = 9;
    learner.observe(seen);
    seen.layer = 0;
    seen.top_k = 2;
    learner.observe(seen);
    CHECK(model->rows(0) == 0);
    CHECK(model->rows(1) == 0);
    seen.top_k = 1;
    seen.chosen[0] = 60'000; // no such expert: a row without a choice
    learner.observe(seen);
    CHECK(model->rows(0) == 1);
}

TEST_CASE("a model that does not fit looks back over fewer layers, and is refused below two blocks") {
    const history_model::dimensions shape{8, 64, 4};
    const std::uint64_t block = std::uint64_t{8} * 64 * 64 * 8;
    const auto whole = history_model::create(shape);
    REQUIRE(whole);
    CHECK((*whole)->looks_at().back == 8);
    CHECK((*whole)->looks_at().ahead == 3);
    const auto small = history_model::create(shape, 3 * block);
    REQUIRE(small);
    CHECK((*small)->looks_at().back == 2);
    CHECK((*small)->looks_at().ahead == 1);
    CHECK(history_model::create(shape, 2 * block - 1).error().code == errc::unsupported);
    CHECK(history_model::create({0, 4, 1}).error().code == errc::invalid_argument);
    CHECK(history_model::create({1, 4, 5}).error().code == errc::invalid_argument);
    CHECK(history_model::create({1, 1 << 20, 5}).error().code == errc::invalid_argument);
}

TEST_CASE("memory tells sequences apart by slots and forgets the oldest token") {
    route_memory memory(2, 1, 2);
    memory.token(5, 1)[0] = 3;
    CHECK(memory.token(5, 1)[0] == 3);
    CHECK(memory.find(5)[0] == 3);
    CHECK(memory.find(5)[1] == route_unknown);
    CHECK(memory.find(-1).empty());
    CHECK(memory.find(6).empty());
    CHECK(memory.token(5, 2)[0] == route_unknown); // the slot holds another token now
    memory.token(6, 2)[0] = 1;
    memory.token(7, 2)[0] = 2;
    CHECK(memory.find(5).empty());
    CHECK(memory.find(6)[0] == 1);
    CHECK(memory.find(7)[0] == 2);
}

TEST_CASE("a model is asked while it is taught, and never waits") {
    auto made = history_model::create({2, 8, 2});
    REQUIRE(made);
    auto& model = **made;
    std::vector<std::uint16_t> ids{1, 2, 3, 4};
    std::thread teacher([&] {
        for (int row = 0; row < 5'000; ++row)
            model.learn(1, {ids, {}}, std::span(ids).subspan(2, 2));
    });
    std::vector<float> scores(8);
    std::size_t answers = 0;
    for (int question = 0; question < 5'000; ++question)
        answers += model.score(1, {ids, {}}, scores);
    teacher.join();
    REQUIRE(model.score(1, {ids, {}}, scores));
    CHECK(scores[3] > scores[0]);
    CHECK(answers <= 5'000);
}
