// What drafts may and may not do to the requests of a batch; the simulation checks the same in all circumstances.
#include "core/batch/batcher.hpp"
#include "core/batch/step_drafts.hpp"

#include "tests/batch/fake_stream.hpp"
#include "tests/batch/reference_generation.hpp"

#include <doctest/doctest.h>

using namespace moira;
using namespace moira::test;

namespace {

const batcher::time_point start{std::chrono::seconds(1000)};

batch_options options_with(draft_source source, std::int32_t draft_max = 4) {
    batch_options options;
    options.sequences_max = 4;
    options.step_tokens_max = 32;
    options.chunk_tokens_max = 16;
    options.context_max = 64;
    options.vocabulary = fake_vocabulary;
    options.eos = {fake_eos};
    options.kv = {.pages = 32, .page_tokens = 4, .reuse_prefixes = true};
    options.speculation = {source, draft_max};
    return options;
}

generation_request request_of(std::uint64_t id, std::int32_t tokens_max) {
    generation_request request;
    request.id = {id};
    request.prompt = {3, 4, 5, 6, 7};
    request.tokens_max = tokens_max;
    request.ignore_eos = true;
    return request;
}

/// Runs requests whose true continuation the stream offers, with every `wrong_every`th offered token replaced.
class offering_run {
public:
    explicit offering_run(const batch_options& options, int wrong_every = 1'000'000)
        : options_(options), batch_(options, fake_bytes),
          stream_(options.kv.pages, options.kv.page_tokens, fake_vocabulary), wrong_every_(wrong_every) {}

    generation_result run(const generation_request& request) {
        REQUIRE(batch_.admit(request, start));
        const auto truth = generate_alone(request, options_.context_max).token_ids;
        std::size_t emitted = 0;
        for (int steps = 0; steps < 1'000; ++steps) {
            const auto plan = batch_.next_plan(start);
            REQUIRE(plan);
            auto outcome = stream_.run(*plan);
            outcome.offered.push_back({request.id, next_of(truth, emitted + newly_emitted(*plan, outcome))});
            for (const auto& each : batch_.advance(outcome, start)) {
                emitted += each.tokens.size();
                longest_run = std::max(longest_run, each.tokens.size());
                if (each.finished)
                    return *each.finished;
            }
        }
        FAIL("it never ends");
        return {};
    }

    batch_statistics statistics() const { return batch_.statistics(); }

    std::size_t longest_run = 0;

private:
    static std::size_t newly_emitted(const step_plan& plan, const step_result& outcome) {
        std::vector<token_id> draft, sampled;
        for (std::size_t i = 0; i < plan.samples.size(); ++i) {
            if (plan.samples[i].follows_draft)
                draft.push_back(plan.tokens[static_cast<std::size_t>(plan.samples[i].row)]);
            sampled.push_back(outcome.samples[i].token);
        }
        return sampled.empty() ? 0 : count_accepted(draft, sampled) + 1;
    }

    std::vector<token_id> next_of(const std::vector<token_id>& truth, std::size_t from) {
        std::vector<token_id> next;
        for (; from < truth.size(); ++from)
            next.push_back(++offered_ % wrong_every_ == 0 ? (truth[from] + 1) % fake_vocabulary : truth[from]);
        return next;
    }

    batch_options options_;
    batcher batch_;
    fake_stream stream_;
    int wrong_every_;
    int offered_ = 0;
};

void check_equal(const generation_result& found, const generation_request& request) {
    const auto expected = generate_alone(request, 64);
    CHECK(found.token_ids == expected.token_ids);
    CHECK(found.text == expected.text);
    CHECK(found.logits_hash == expected.logits_hash);
    CHECK(found.reason == expected.reason);
}

} // namespace

TEST_CASE("right drafts are emitted in one step, and the text is the one without them") {
    for (const double temperature : {0.0, 1.0}) {
        offering_run run(options_with(draft_source::model));
        auto request = request_of(1, 30);
        request.sampling.temperature = temperature;
        request.sampling.seed = 5;
        const auto found = run.run(request);
        check_equal(found, request);
        CHECK(run.longest_run == 5); // four drafted ones and the next
        CHECK(run.statistics().steps <= 10);
        CHECK(found.speculation.drafted == found.speculation.accepted);
        CHECK(found.speculation.accepted >= 20);
    }
}

TEST_CASE("penalties and stop strings work inside an accepted run as they do token by token") {
    int stopped = 0, stopped_inside = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        offering_run run(options_with(draft_source::model), 7);
        auto request = request_of(1, 40);
        request.ignore_eos = seed % 2 == 0;
        request.stop = {"ab", "xy", "on"};
        request.sampling.temperature = 0.9;
        request.sampling.seed = seed;
        request.sampling.repetition_penalty = 1.5;
        const auto found = run.run(request);
        check_equal(found, request);
        stopped += found.reason == finish_reason::stop;
        stopped_inside += found.reason == finish_reason::stop && run.longest_run > 1;
    }
    CHECK(stopped > 50);
    CHECK(stopped_inside > 20);
}

TEST_CASE("rejected rows leave nothing behind but their own counters") {
    for (const int wrong_every : {1, 2, 3}) {
        CAPTURE(wrong_every);
        offering_run plain(options_with(draft_source::none)), drafting(options_with(draft_source::model), wrong_every);
        for (std::uint64_t id = 1; id <= 6; ++id) {
            const auto request = request_of(id, static_cast<std::int32_t>(7 + 5 * id));
            const auto expected = plain.run(request), found = drafting.run(request);
            CHECK(found.logits_hash == expected.logits_hash);
            CHECK(found.cached_tokens == expected.cached_tokens); // the prefixes remembered are the same
            const auto before = plain.statistics(), after = drafting.statistics();
            CHECK(after.pages_free == before.pages_free);
            CHECK(after.rows == before.rows);
            CHECK(after.completion_tokens == before.completion_tokens);
            CHECK(after.prompt_tokens == before.prompt_tokens);
            CHECK(after.cached_tokens == before.cached_tokens);
            CHECK(after.preemptions == 0);
        }
        const auto counts = drafting.statistics().speculation;
        CHECK(counts.steps > 0);
        CHECK(counts.drafted > counts.accepted);
        CHECK((wrong_every == 1) == (counts.accepted == 0));
        CHECK(plain.statistics().speculation.drafted == 0);
    }
}

TEST_CASE("a draft is no longer than what may still be emitted, and nothing with a length of zero") {
    for (const std::int32_t tokens_max : {1, 2, 3}) {
        offering_run run(options_with(draft_source::model));
        const auto request = request_of(1, tokens_max);
        const auto found = run.run(request);
        check_equal(found, request);
        CHECK(found.speculation.drafted <= static_cast<std::uint64_t>(tokens_max));
        CHECK(found.token_ids.size() == static_cast<std::size_t>(tokens_max));
    }
    offering_run off(options_with(draft_source::model, 0));
    CHECK(off.run(request_of(1, 20)).speculation.drafted == 0);
    offering_run narrow([] {
        auto options = options_with(draft_source::model);
        options.step_tokens_max = 1;
        return options;
    }());
    CHECK(narrow.run(request_of(1, 20)).speculation.drafted == 0);
}

TEST_CASE("a text that repeats itself is drafted from its own past") {
    const auto options = options_with(draft_source::ngram);
    batcher batch(options, fake_bytes);
    fake_stream stream(options.kv.pages, options.kv.page_tokens, fake_vocabulary);
    auto request = request_of(1, 8);
    // Whatever is sampled behind the last 8 has stood behind an 8 before.
    request.prompt.clear();
    for (token_id token = 0; token < fake_vocabulary; ++token)
        request.prompt.insert(request.prompt.end(), {8, token});
    request.prompt.push_back(8);
    REQUIRE(batch.admit(request, start));
    std::shared_ptr<const step_plan> plan;
    while ((plan = batch.next_plan(start))->samples.empty())
        batch.advance(stream.run(*plan), start);
    draft_verifier verifier({});
    const auto orders = batch.take_follow_orders();
    REQUIRE(orders.size() == 1);
    CHECK(orders.front().text == request.prompt);
    verifier.follow(orders.front());
    CHECK(batch.take_follow_orders().empty());
    const auto first = stream.run(*plan);
    const auto verdict = verifier.judge(plan->number, drafts_of(*plan, first));
    CHECK_FALSE(batch.drafts_in_flight());
    batch.advance(first, start, &verdict);
    const token_id sampled = first.samples.front().token;
    plan = batch.next_plan(start);
    REQUIRE(plan->rows() == 5);
    CHECK(plan->tokens[0] == sampled);
    for (std::size_t i = 1; i < 5; ++i) {
        const auto place = 2 * static_cast<std::size_t>(sampled) + 1 + i;
        if (place < request.prompt.size())
            CHECK(plan->tokens[i] == request.prompt[place]);
    }
    CHECK(plan->samples.size() == 5);
    CHECK(plan->draft_requests.empty());
    CHECK(plan->to_verify);
    CHECK(batch.drafts_in_flight());

    // A text that ends is forgotten; a verifier that forgot is told again.
    batch.follow_again();
    batch.advance(stream.run(*plan), start);
    if (batch.next_plan(start)) {
        const auto again = batch.take_follow_orders();
        REQUIRE(again.size() == 1);
        CHECK(again.front().text.size() > request.prompt.size());
        batch.cancel({1}, finish_reason::cancelled, std::nullopt, start);
        REQUIRE(batch.take_follow_orders().size() == 1);
    }
}

TEST_CASE("without speculation nobody is followed and no step is shown to the verifier") {
    const auto options = options_with(draft_source::none);
    batcher batch(options, fake_bytes);
    fake_stream stream(options.kv.pages, options.kv.page_tokens, fake_vocabulary);
    REQUIRE(batch.admit(request_of(1, 6), start));
    while (const auto plan = batch.next_plan(start)) {
        CHECK_FALSE(plan->to_verify);
        CHECK(batch.take_follow_orders().empty());
        batch.advance(stream.run(*plan), start);
    }
}

TEST_CASE("a verdict that is about another draft is not believed") {
    const auto options = options_with(draft_source::model);
    batcher batch(options, fake_bytes);
    fake_stream stream(options.kv.pages, options.kv.page_tokens, fake_vocabulary);
    const auto request = request_of(1, 12);
    const auto truth = generate_alone(request, options.context_max).token_ids;
    REQUIRE(batch.admit(request, start));
    std::vector<token_id> emitted;
    while (const auto plan = batch.next_plan(start)) {
        auto outcome = stream.run(*plan);
        outcome.offered.push_back({request.id, {0, 1, 2}});
        step_verdict wrong{plan->number, {{request.id, 99, false, {}}}};
        for (const auto& each : batch.advance(outcome, start, &wrong))
            for (const auto& token : each.tokens)
                emitted.push_back(token.token);
    }
    CHECK(emitted == truth);
}
