#include "core/speculate/draft_verifier.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace moira;

namespace {

using ids = std::vector<token_id>;

sampled_draft step_of(std::uint64_t request, std::int64_t position, ids draft, ids sampled) {
    return {{request}, position, std::move(draft), std::move(sampled)};
}

draft_verdict judge_one(draft_verifier& verifier, const sampled_draft& step) {
    const auto verdict = verifier.judge(1, std::vector{step});
    REQUIRE(verdict.drafts.size() == 1);
    return verdict.drafts.front();
}

} // namespace

TEST_CASE("a followed text grows by what was accepted and the token behind it") {
    draft_verifier verifier({.texts_max = 2, .tokens_max = 100, .proposal_max = 3});
    verifier.follow({{1}, {1, 2, 3, 4, 5, 1}});
    auto verdict = judge_one(verifier, step_of(1, 6, {}, {2}));
    CHECK(verdict.accepted == 0);
    CHECK(verdict.followed);
    CHECK(verdict.proposal.behind == 7);
    CHECK(verdict.proposal.tokens == ids{3, 4, 5});
    verdict = judge_one(verifier, step_of(1, 7, {3, 4, 5}, {3, 4, 9, 8}));
    CHECK(verdict.accepted == 2);
    CHECK(verdict.followed);
    CHECK(verdict.proposal.behind == 10);
    CHECK(verdict.proposal.tokens.empty());
}

TEST_CASE("a text that is not followed is judged all the same, without a proposal") {
    draft_verifier verifier({});
    const auto verdict = judge_one(verifier, step_of(5, 3, {7, 7}, {7, 8, 9}));
    CHECK(verdict.accepted == 1);
    CHECK_FALSE(verdict.followed);
    CHECK(verdict.proposal.tokens.empty());
}

TEST_CASE("a verdict is news where a draft was judged, something is proposed, or a text is not followed") {
    draft_verifier verifier({});
    verifier.follow({{1}, {1, 2, 3, 4}});
    const auto news = [&](const sampled_draft& step) { return verifier.judge(1, std::vector{step}).news; };
    CHECK_FALSE(news(step_of(1, 4, {}, {5}))); // nothing repeats
    CHECK_FALSE(news(step_of(1, 5, {}, {1}))); // one token is no repetition
    CHECK(news(step_of(1, 6, {}, {2})));       // 1 2 stood before
    CHECK(news(step_of(1, 7, {3}, {9, 9})));   // a wrong draft: whoever waits must hear of it
    CHECK(news(step_of(7, 3, {}, {1})));       // nobody asked to follow this one
    CHECK_FALSE(verifier.judge(2, {}).news);
}

TEST_CASE("a text that missed a step is given up, and followed again on order") {
    draft_verifier verifier({});
    verifier.follow({{1}, {1, 2, 1, 2}});
    CHECK_FALSE(judge_one(verifier, step_of(1, 5, {}, {2})).followed);
    CHECK(verifier.followed() == 0);
    verifier.follow({{1}, {1, 2, 1, 2, 1}});
    CHECK(judge_one(verifier, step_of(1, 5, {}, {2})).followed);
    // A step from before the order changes nothing.
    CHECK(judge_one(verifier, step_of(1, 4, {}, {1})).followed);
    const auto next = judge_one(verifier, step_of(1, 6, {}, {1}));
    CHECK(next.followed);
    CHECK(next.proposal.behind == 7);
    verifier.follow({{1}, {}});
    CHECK(verifier.followed() == 0);
}

TEST_CASE("texts and their tokens are bounded") {
    draft_verifier verifier({.texts_max = 2, .tokens_max = 5, .proposal_max = 3});
    verifier.follow({{1}, {1, 2}});
    verifier.follow({{2}, {1, 2}});
    CHECK(judge_one(verifier, step_of(1, 2, {}, {3})).followed);
    verifier.follow({{3}, {1, 2}}); // 2 was judged longest ago
    CHECK(verifier.followed() == 2);
    CHECK_FALSE(judge_one(verifier, step_of(2, 2, {}, {3})).followed);
    CHECK(judge_one(verifier, step_of(1, 3, {4}, {4, 5})).followed);
    CHECK_FALSE(judge_one(verifier, step_of(1, 5, {}, {6})).followed);
    verifier.follow({{4}, {1, 2, 3, 4, 5, 6}});
    CHECK_FALSE(judge_one(verifier, step_of(4, 6, {}, {6})).followed);
}

TEST_CASE("a proposal that comes late is used as far as the text went its way") {
    const draft_proposal proposal{3, {7, 8, 9}};
    CHECK(proposal.behind_text(ids{1, 2, 3}, 2) == ids{7, 8});
    CHECK(proposal.behind_text(ids{1, 2, 3, 7}, 4) == ids{8, 9});
    CHECK(proposal.behind_text(ids{1, 2, 3, 6}, 4).empty());
    CHECK(proposal.behind_text(ids{1, 2, 3, 7, 8, 9}, 4).empty());
    CHECK(proposal.behind_text(ids{1, 2}, 4).empty());
    CHECK(draft_proposal{-1, {7}}.behind_text(ids{}, 4).empty());
}
