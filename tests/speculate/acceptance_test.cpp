#include "core/speculate/acceptance.hpp"

#include <doctest/doctest.h>
#include <random>
#include <vector>

using namespace moira;

TEST_CASE("a draft is right up to the first token that sampling does not yield") {
    const std::vector<token_id> draft{4, 5, 6};
    CHECK(count_accepted(draft, std::vector<token_id>{4, 5, 6, 7}) == 3);
    CHECK(count_accepted(draft, std::vector<token_id>{4, 5, 9, 7}) == 2);
    CHECK(count_accepted(draft, std::vector<token_id>{9, 5, 6, 7}) == 0);
    CHECK(count_accepted(draft, std::vector<token_id>{4}) == 1);
    CHECK(count_accepted(draft, {}) == 0);
    CHECK(count_accepted({}, std::vector<token_id>{4}) == 0);
}

TEST_CASE("accepted tokens and the one behind them are the text that a source without drafts gives") {
    std::mt19937 random(1);
    for (int round = 0; round < 2'000; ++round) {
        // The text is a function of its own past, as sampling is.
        const auto next = [](const std::vector<token_id>& text) {
            std::uint32_t hash = 7;
            for (const token_id token : text)
                hash = hash * 31 + static_cast<std::uint32_t>(token) + 1;
            return static_cast<token_id>((hash >> 7) % 3);
        };
        std::vector<token_id> plain{1}, speculated{1};
        while (speculated.size() < 40) {
            std::vector<token_id> draft, sampled, history = speculated;
            for (auto count = random() % 5; count > 0; --count)
                draft.push_back(static_cast<token_id>(random() % 3));
            for (std::size_t i = 0; i <= draft.size(); ++i) {
                sampled.push_back(next(history));
                if (i < draft.size())
                    history.push_back(draft[i]);
            }
            const auto accepted = count_accepted(draft, sampled);
            speculated.insert(speculated.end(), sampled.begin(),
                              sampled.begin() + static_cast<std::ptrdiff_t>(accepted) + 1);
        }
        while (plain.size() < speculated.size())
            plain.push_back(next(plain));
        REQUIRE(plain == speculated);
    }
}

TEST_CASE("counts add up") {
    speculation_counts counts;
    counts.add(4, 2);
    counts.add(1, 0);
    CHECK(counts.drafted == 5);
    CHECK(counts.accepted == 2);
    CHECK(counts.steps == 2);
}
