// Whole lives of a server with scripted costs: what `auto` costs beside off, and what it finds.
#include "core/speculate/source_choice.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace moira;

namespace {

/// What steps of one sequence cost; a plain one costs 1 and gives a token.
struct script {
    double model_cost = 1, model_tokens = 1; ///< of a step with the layer
    double ngram_cost = 1, ngram_tokens = 1; ///< of a step with a draft by repetition
    double ngram_chance = 0;                 ///< that a step has such a draft
};

struct outcome {
    double cost_per_token = 0, model_share = 0, ngram_share = 0;
};

/// 2,000 sequences of 60 tokens, one after another, every step with some noise.
outcome run(const script& costs, bool has_model = true) {
    std::mt19937 random(7);
    std::uniform_real_distribution<double> noise(0.9, 1.1), chance(0, 1);
    source_choice choice(has_model);
    double cost = 0, tokens = 0, model_steps = 0, ngram_steps = 0, steps = 0;
    for (int sequence = 0; sequence < 2'000; ++sequence) {
        auto source = choice.at_start();
        for (double emitted = 0; emitted < 60; ++steps) {
            if (source == draft_source::model && !choice.model_open())
                source = draft_source::ngram;
            const bool model = source == draft_source::model;
            const bool ngram = !model && chance(random) < costs.ngram_chance && choice.ngram_now();
            const double gained = model ? costs.model_tokens : ngram ? costs.ngram_tokens : 1;
            const double paid = (model ? costs.model_cost : ngram ? costs.ngram_cost : 1) * noise(random);
            choice.note_step(1, gained, paid, ngram, model);
            emitted += gained;
            tokens += gained;
            cost += paid;
            model_steps += model;
            ngram_steps += ngram;
        }
    }
    return {cost / tokens, model_steps / steps, ngram_steps / steps};
}

} // namespace

TEST_CASE("where nothing pays, auto costs within two per cent of off") {
    const auto found = run({.model_cost = 1.5, .model_tokens = 1.1, .ngram_cost = 1.4, .ngram_tokens = 1.05, .ngram_chance = 0.5});
    CHECK(found.cost_per_token < 1.02);
    CHECK(found.model_share > 0); // it looks now and then
    CHECK(found.ngram_share > 0);
}

TEST_CASE("drafts that are always wrong cost within two per cent") {
    CHECK(run({.model_cost = 1.4, .ngram_cost = 1.5, .ngram_chance = 1}).cost_per_token < 1.02);
}

TEST_CASE("where the model's layer pays, most sequences draft with it") {
    const auto found = run({.model_cost = 1.2, .model_tokens = 2});
    CHECK(found.model_share > 0.8);
    CHECK(found.cost_per_token < 0.7);
}

TEST_CASE("where repetition pays, it is used") {
    const auto found = run({.model_cost = 1.5, .ngram_cost = 1.3, .ngram_tokens = 2.5, .ngram_chance = 0.5});
    CHECK(found.ngram_share > 0.4);
    CHECK(found.cost_per_token < 0.85);
}

TEST_CASE("a model without the layer never drafts with it, and a short life never tries the layer") {
    CHECK(run({.model_tokens = 3}, false).model_share == 0);
    source_choice choice(true);
    CHECK(choice.at_start() == draft_source::ngram);
    choice.note_step(1, source_choice::tokens_before_trial_default - 1, 1000, false, false);
    CHECK(choice.at_start() == draft_source::ngram);
    choice.note_step(1, 1, 1.0, false, false);
    CHECK(choice.at_start() == draft_source::model);
}

TEST_CASE("pauses double up to their bound, and what pays later is found") {
    draft_trial trial({.tokens_trial = 4, .trial_share = 1, .pause_min = 2, .pause_max = 8, .control_share = 1000});
    for (const int pause : {4, 8, 8}) {
        REQUIRE(trial.use());
        trial.note(4, 5, 4);
        CHECK_FALSE(trial.open());
        for (int i = 0; i < pause; ++i)
            CHECK_FALSE(trial.use());
    }
    REQUIRE(trial.use());
    trial.note(4, 2, 4);
    CHECK(trial.pays());
    trial.note(4, 5, 4); // not any more
    CHECK_FALSE(trial.open());
    for (int i = 0; i < 2; ++i)
        CHECK_FALSE(trial.use());
    CHECK(trial.use());
}

TEST_CASE("costs that make no sense decide nothing") {
    draft_trial trial({.tokens_trial = 1});
    trial.note(4, 0, 4);
    trial.note(4, 1, 0);
    CHECK(trial.open());
    CHECK_FALSE(trial.pays());
    plain_cost plain;
    plain.note(1, 0, 1);
    plain.note(1, 1, -1);
    CHECK(plain.per_token(1) == 0);
    plain.note(5, 5, 10);
    CHECK(plain.per_token(7) == 2);
    CHECK(plain.per_token(1'000'000'000) == 0);
}
