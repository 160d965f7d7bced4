#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>

using namespace moira;

namespace {

std::filesystem::path demo() {
    return std::filesystem::path(MOIRA_SOURCE_DIRECTORY) / "config/models/moira-demo";
}

class mtp_collector final : public forward_observer {
public:
    void hidden(std::int32_t, std::span<const float>) override {}
    void routing(std::int32_t, std::span<const std::int32_t>) override {}
    void logits(std::int32_t, std::span<const float> values) override {
        logits_all.insert(logits_all.end(), values.begin(), values.end());
    }
    void mtp_logits(std::int32_t row, std::span<const float> values) override {
        CHECK(row == next_row++);
        mtp_all.insert(mtp_all.end(), values.begin(), values.end());
    }

    std::vector<float> logits_all, mtp_all;
    std::int32_t next_row = 0;
};

/// Logits of the model and of its prediction layer, in steps of `chunk` rows.
mtp_collector run(engine& model, const std::vector<token_id>& ids, std::int32_t chunk) {
    mtp_collector observer;
    const auto tokens = static_cast<std::int32_t>(ids.size());
    for (std::int32_t first = 0; first < tokens; first += chunk) {
        const auto count = std::min(chunk, tokens - first);
        const auto plan = plan_prompt_rows(ids, first, count, model.limits());
        const auto outcome = model.run_step(plan, &observer);
        REQUIRE_FALSE(outcome.failure);
        const auto next = std::span(ids).subspan(static_cast<std::size_t>(first) + 1);
        observer.next_row = 0;
        const auto done =
            model.run_mtp_rows(plan, next.first(std::min(next.size(), static_cast<std::size_t>(count))), observer);
        REQUIRE_MESSAGE(done, done.error().message);
    }
    return observer;
}

} // namespace

TEST_CASE("the prediction layer gives the same bits in steps of any size and with few slots") {
    const auto ids = some_tokens(20);
    for (const auto& plugin : runnable_plugins()) {
        INFO(plugin);
        test_engine::wanted how;
        how.plugin = plugin;
        how.options.mtp = true;
        auto plain = test_engine::required(demo(), how);
        const auto expected = run(*plain.model, ids, 20);
        CHECK(expected.mtp_all.size() == 19 * static_cast<std::size_t>(plain.model->shape().vocabulary));
        CHECK(std::all_of(expected.mtp_all.begin(), expected.mtp_all.end(), [](float x) { return std::isfinite(x); }));
        how.options = options_with_slots(4, plain.model->slab_bytes());
        how.options.mtp = true;
        auto tight = test_engine::required(demo(), how);
        for (const std::int32_t chunk : {1, 7}) {
            const auto found = run(*tight.model, ids, chunk);
            CHECK(same_bits(found.mtp_all, expected.mtp_all));
            CHECK(same_bits(found.logits_all, expected.logits_all));
        }
    }
}

TEST_CASE("a prediction layer that was not asked for takes no room, and one that was changes no logit") {
    const auto ids = some_tokens(9);
    auto without = test_engine::required(demo(), {});
    test_engine::wanted how;
    how.options.mtp = true;
    auto with = test_engine::required(demo(), how);
    CHECK_FALSE(without.model->has_mtp());
    CHECK(with.model->has_mtp());
    CHECK(without.model->experts().statistics().slots == 7 * 32);
    CHECK(with.model->experts().statistics().slots == 8 * 32);
    CHECK(without.model->dense_bytes() < with.model->dense_bytes());
    CHECK(without.model->numerics_id() == with.model->numerics_id());
    const auto plain = logits_of(*without.model, ids, 9);
    REQUIRE(plain);
    CHECK(same_bits(run(*with.model, ids, 9).logits_all, *plain));
}

TEST_CASE("a prediction layer that is not there is refused") {
    test_engine::wanted how;
    how.options.mtp = true;
    CHECK(test_engine::open(golden_folder("qwen3_moe"), how).error().code == errc::unsupported);

    auto without = test_engine::required(demo(), {});
    mtp_collector observer;
    const auto ids = some_tokens(4);
    const auto plan = plan_prompt_rows(ids, 0, 4, without.model->limits());
    REQUIRE_FALSE(without.model->run_step(plan).failure);
    CHECK(without.model->run_mtp_rows(plan, ids, observer).error().code == errc::unsupported);

    auto with = test_engine::required(demo(), how);
    REQUIRE_FALSE(with.model->run_step(plan).failure);
    const auto more = some_tokens(5);
    CHECK(with.model->run_mtp_rows(plan, more, observer).error().code == errc::invalid_argument);
    CHECK(with.model->run_mtp_rows(plan, {}, observer));
}

TEST_CASE("a step offers what its prediction layer expects behind the sampled token, as far as there are slots") {
    const auto ids = some_tokens(12);
    for (const auto& plugin : runnable_plugins()) {
        INFO(plugin);
        test_engine::wanted how;
        how.plugin = plugin;
        how.options.mtp = true;
        auto tested = test_engine::required(demo(), how);
        auto& model = *tested.model;
        auto plan = plan_prompt_rows(ids, 0, 12, model.limits());
        plan.samples.erase(plan.samples.begin(), plan.samples.end() - 1);
        plan.samples.front().request = {7};
        plan.draft_requests.push_back({.request = {7}, .rows = 12, .samples = 1, .pages = 1, .tokens_max = 3});
        const auto outcome = model.run_step(plan);
        REQUIRE_FALSE(outcome.failure);
        REQUIRE(outcome.offered.size() == 1);
        const auto& offered = outcome.offered.front();
        CHECK(offered.request == request_id{7});
        REQUIRE(offered.tokens.size() == 3);

        // The first one by hand: the last row's logits with the sampled token as the next one.
        auto next = std::vector(ids.begin() + 1, ids.end());
        next.push_back(outcome.samples.front().token);
        mtp_collector observer;
        auto plain = plan;
        plain.draft_requests.clear();
        REQUIRE_FALSE(model.run_step(plain).failure);
        REQUIRE(model.run_mtp_rows(plain, next, observer));
        const auto last = observer.mtp_all.end() - model.shape().vocabulary;
        CHECK(std::max_element(last, observer.mtp_all.end()) - last == offered.tokens.front());

        // One page holds positions 0 to 15; the module's rows for more drafts would stand at 16 and after.
        plan.draft_requests.front().tokens_max = 64;
        CHECK(model.run_step(plan).offered.front().tokens.size() == 5);
        plan.draft_requests.front().tokens_max = 0;
        CHECK(model.run_step(plan).offered.empty());
    }
}

TEST_CASE("rows of a draft are sampled with hashes that go on, and a right draft changes no bit") {
    const auto ids = some_tokens(10);
    auto tested = test_engine::required(demo(), {});
    auto& model = *tested.model;
    // Token by token first.
    auto text = ids;
    std::vector<sampled_token> alone;
    logits_hash hash;
    for (int step = 0; step < 4; ++step) {
        auto plan = plan_prompt_rows(text, 0, static_cast<std::int32_t>(text.size()), model.limits());
        plan.samples.erase(plan.samples.begin(), plan.samples.end() - 1);
        plan.samples.front().hash = hash;
        const auto outcome = model.run_step(plan);
        REQUIRE_FALSE(outcome.failure);
        alone.push_back(outcome.samples.front());
        text.push_back(alone.back().token);
        hash = alone.back().hash;
    }
    // The first two drafted tokens are right, the third is not.
    auto drafted = text;
    drafted.resize(ids.size() + 2);
    drafted.push_back((text[ids.size() + 2] + 1) % 300);
    auto plan = plan_prompt_rows(drafted, 0, static_cast<std::int32_t>(drafted.size()), model.limits());
    plan.samples.erase(plan.samples.begin(), plan.samples.begin() + static_cast<std::ptrdiff_t>(ids.size()) - 1);
    for (std::size_t i = 1; i < plan.samples.size(); ++i)
        plan.samples[i].follows_draft = true;
    const auto outcome = model.run_step(plan);
    REQUIRE(outcome.samples.size() == 4);
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK(outcome.samples[i].token == alone[i].token);
        CHECK(outcome.samples[i].hash.hex() == alone[i].hash.hex());
    }
}

TEST_CASE("experts that only drafted rows or the prediction layer ask for leave the store's other counters alone") {
    const auto ids = some_tokens(12);
    test_engine::wanted how;
    how.options.mtp = true;
    auto plain = test_engine::required(demo(), how);
    auto drafting = test_engine::required(demo(), how);
    REQUIRE_FALSE(plain.model->run_step(plan_prompt_rows(ids, 0, 8, plain.model->limits())).failure);
    auto plan = plan_prompt_rows(ids, 0, 12, drafting.model->limits());
    for (auto& sample : plan.samples)
        sample.follows_draft = sample.row >= 8;
    plan.draft_requests.push_back({.request = {0}, .rows = 12, .samples = 12, .pages = 1, .tokens_max = 0});
    REQUIRE_FALSE(drafting.model->run_step(plan).failure);
    const auto expected = plain.model->experts().statistics(), found = drafting.model->experts().statistics();
    CHECK(found.hits == expected.hits);
    CHECK(found.demand_loads == expected.demand_loads);
    CHECK(found.demand_bytes == expected.demand_bytes);
    CHECK(expected.drafted.hits + expected.drafted.demand_loads == 0);
    CHECK(found.drafted.demand_loads > 0);
    CHECK(found.drafted.demand_bytes > 0);
    CHECK(found.module.demand_loads > 0);
}
