#include "core/speculate/ngram_index.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <random>

using namespace moira;

namespace {

std::vector<token_id> draft_of(const std::vector<token_id>& text, std::size_t count) {
    ngram_index index;
    index.extend(text);
    return index.propose(text, count);
}

/// What follows the newest earlier place of the longest repeated end, found by looking everywhere.
std::vector<token_id> expected_draft(const std::vector<token_id>& text, std::size_t count) {
    for (std::size_t length = ngram_index::ngram_max; length >= ngram_index::ngram_min; --length)
        for (std::size_t next = text.size(); next-- > length;)
            if (std::equal(text.end() - static_cast<std::ptrdiff_t>(length), text.end(),
                           text.begin() + static_cast<std::ptrdiff_t>(next - length))) {
                std::vector<token_id> copied = text;
                for (std::size_t i = 0; i < count; ++i)
                    copied.push_back(copied[next + i]);
                return {copied.end() - static_cast<std::ptrdiff_t>(count), copied.end()};
            }
    return {};
}

} // namespace

TEST_CASE("what followed the last tokens before is proposed") {
    CHECK(draft_of({1, 2, 3, 4, 5, 9, 1, 2}, 3) == std::vector<token_id>{3, 4, 5});
    CHECK(draft_of({1, 2, 3, 9, 1, 2, 4, 8, 1, 2}, 1) == std::vector<token_id>{4});          // the newest place
    CHECK(draft_of({5, 1, 2, 3, 9, 7, 1, 2, 4, 8, 5, 1, 2}, 1) == std::vector<token_id>{3}); // the longest run
}

TEST_CASE("a repetition that reaches the end goes on") {
    CHECK(draft_of({7, 7, 7}, 4) == std::vector<token_id>{7, 7, 7, 7});
    CHECK(draft_of({1, 2, 3, 1, 2, 3, 1, 2}, 4) == std::vector<token_id>{3, 1, 2, 3});
}

TEST_CASE("nothing is proposed where nothing repeats, nothing is asked for, or nothing is known") {
    CHECK(draft_of({}, 4).empty());
    CHECK(draft_of({1}, 4).empty());
    CHECK(draft_of({1, 1}, 4).empty());
    CHECK(draft_of({1, 2, 3, 4, 5}, 4).empty());
    CHECK(draft_of({1, 2, 1, 2}, 0).empty());
    CHECK(ngram_index{}.propose(std::vector<token_id>{1, 2, 1, 2}, 4).empty());
}

TEST_CASE("an index that grows with its text proposes what looking everywhere would") {
    std::mt19937 random(3);
    std::size_t proposed = 0;
    for (int round = 0; round < 60; ++round) {
        ngram_index index;
        std::vector<token_id> text;
        const auto vocabulary = 2 + random() % 12;
        while (text.size() < 300) {
            for (auto more = random() % 5; more > 0; --more)
                text.push_back(static_cast<token_id>(random() % vocabulary));
            index.extend(text);
            const auto found = index.propose(text, 3);
            const auto expected = expected_draft(text, 3);
            // Two runs may share a slot; then the older one is not found, or a shorter one is.
            if (!found.empty())
                REQUIRE_FALSE(expected.empty());
            proposed += found == expected;
        }
    }
    CHECK(proposed > 8'000); // of about 9,000
}

TEST_CASE("memory is bounded whatever the text is, and the near past stays known") {
    std::mt19937 random(4);
    std::vector<token_id> text;
    for (int i = 0; i < 300'000; ++i)
        text.push_back(static_cast<token_id>(random()) & 0xffff);
    text.insert(text.end(), {1, 2, 3, 4, 5, 6, 1, 2, 3});
    ngram_index index;
    index.extend(text);
    CHECK(index.slots() == ngram_index::slots_max);
    CHECK(index.propose(text, 2) == std::vector<token_id>{4, 5});
    // Another text, shorter than the first: nothing of the first one is proposed.
    const std::vector<token_id> other{1, 2, 3};
    index.extend(other);
    CHECK(index.propose(other, 2).empty());
    // Extreme ids are tokens like others.
    const token_id low = std::numeric_limits<token_id>::min(), high = std::numeric_limits<token_id>::max();
    CHECK(draft_of({low, high, 0, low, high}, 1) == std::vector<token_id>{0});
}
