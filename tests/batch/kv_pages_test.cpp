#include "core/batch/kv_pages.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <map>
#include <random>
#include <set>
#include <vector>

using namespace moira;

namespace {

std::vector<token_id> count_up(int first, int count) {
    std::vector<token_id> tokens;
    for (int i = 0; i < count; ++i)
        tokens.push_back(first + i);
    return tokens;
}

/// A sequence that has computed all of `tokens`.
kv_pages::sequence_pages computed_sequence(kv_pages& pages, const std::vector<token_id>& tokens) {
    auto sequence = pages.start(tokens);
    REQUIRE(pages.grow(sequence, std::ssize(tokens)));
    pages.computed(sequence, tokens);
    return sequence;
}

} // namespace

TEST_CASE("a sequence takes whole pages and gives all of them back") {
    kv_pages pages({.pages = 4, .page_tokens = 4, .reuse_prefixes = false});
    kv_pages::sequence_pages sequence;
    CHECK(pages.grow(sequence, 1));
    CHECK(sequence.pages.size() == 1);
    CHECK(pages.grow(sequence, 4));
    CHECK(sequence.pages.size() == 1);
    CHECK(pages.grow(sequence, 5));
    CHECK(sequence.pages.size() == 2);
    CHECK(pages.pages_free() == 2);
    pages.release(sequence);
    CHECK(sequence.pages.empty());
    CHECK(pages.pages_free() == 4);
}

TEST_CASE("growing beyond the pool changes nothing") {
    kv_pages pages({.pages = 2, .page_tokens = 4});
    kv_pages::sequence_pages sequence;
    CHECK(pages.grow(sequence, 4));
    CHECK_FALSE(pages.grow(sequence, 9));
    CHECK_FALSE(pages.grow(sequence, std::int64_t{1} << 62));
    CHECK(sequence.pages.size() == 1);
    CHECK(pages.pages_free() == 1);
    CHECK(pages.grow(sequence, 8));
}

TEST_CASE("a prefix is found again by its exact tokens, whole pages only, never the last token") {
    kv_pages pages({.pages = 8, .page_tokens = 4});
    const auto tokens = count_up(100, 12);
    auto first = computed_sequence(pages, tokens);
    const auto original = first.pages;
    pages.release(first);
    CHECK(pages.pages_remembered() == 3);
    CHECK(pages.pages_free() == 8);

    auto same = pages.start(tokens);
    CHECK(same.pages == std::vector(original.begin(), original.begin() + 2));
    auto longer = pages.start(count_up(100, 13));
    CHECK(longer.pages == original);
    auto other_tail = tokens;
    other_tail[6] = 7;
    auto differing = pages.start(other_tail);
    CHECK(differing.pages == std::vector{original[0]});
    auto other_head = tokens;
    other_head[0] = 7;
    CHECK(pages.start(other_head).pages.empty());
    CHECK(pages.start(count_up(104, 8)).pages.empty()); // the same page content behind another beginning
    CHECK(pages.start({}).pages.empty());
    pages.release(same);
    pages.release(longer);
    pages.release(differing);
    CHECK(pages.pages_free() == 8);
}

TEST_CASE("without reuse nothing is remembered") {
    kv_pages pages({.pages = 8, .page_tokens = 4, .reuse_prefixes = false});
    auto first = computed_sequence(pages, count_up(0, 8));
    pages.release(first);
    CHECK(pages.pages_remembered() == 0);
    CHECK(pages.start(count_up(0, 12)).pages.empty());
}

TEST_CASE("only computed pages are remembered") {
    kv_pages pages({.pages = 8, .page_tokens = 4});
    const auto tokens = count_up(0, 12);
    auto sequence = pages.start(tokens);
    REQUIRE(pages.grow(sequence, 12));
    pages.computed(sequence, std::span(tokens).first(7));
    pages.release(sequence);
    CHECK(pages.pages_remembered() == 1);
}

TEST_CASE("a shared page stays while one user is left") {
    kv_pages pages({.pages = 3, .page_tokens = 2});
    auto first = computed_sequence(pages, count_up(0, 4));
    auto second = pages.start(count_up(0, 5));
    CHECK(second.pages == first.pages);
    pages.release(first);
    CHECK(pages.pages_free() == 1);
    kv_pages::sequence_pages greedy;
    CHECK_FALSE(pages.grow(greedy, 4));
    pages.release(second);
    CHECK(pages.grow(greedy, 6));
    pages.release(greedy);
}

TEST_CASE("two sequences that compute the same page at the same time end up sharing one") {
    kv_pages pages({.pages = 4, .page_tokens = 2});
    const auto tokens = count_up(0, 4);
    kv_pages::sequence_pages first;
    kv_pages::sequence_pages second;
    REQUIRE(pages.grow(first, 4));
    REQUIRE(pages.grow(second, 4));
    CHECK(pages.pages_free() == 0);
    pages.computed(first, tokens);
    pages.computed(second, tokens);
    CHECK(first.pages == second.pages);
    CHECK(pages.pages_free() == 2);
    pages.release(first);
    pages.release(second);
    CHECK(pages.pages_free() == 4);
}

TEST_CASE("the least recently used prefix is given up first, its end before its beginning") {
    kv_pages pages({.pages = 4, .page_tokens = 2});
    auto old_one = computed_sequence(pages, count_up(0, 4));
    auto new_one = computed_sequence(pages, count_up(50, 4));
    pages.release(old_one);
    pages.release(new_one);
    kv_pages::sequence_pages taker;
    REQUIRE(pages.grow(taker, 2));
    auto old_again = pages.start(count_up(0, 5));
    CHECK(old_again.pages.size() == 1);
    auto new_again = pages.start(count_up(50, 5));
    CHECK(new_again.pages.size() == 2);
    pages.release(old_again);
    pages.release(new_again);
    pages.release(taker);
    CHECK(pages.pages_free() == 4);
}

TEST_CASE("forget drops what nobody uses and keeps what somebody does") {
    kv_pages pages({.pages = 6, .page_tokens = 2});
    auto used = computed_sequence(pages, count_up(0, 4));
    auto unused = computed_sequence(pages, count_up(50, 4));
    pages.release(unused);
    pages.forget();
    CHECK(pages.pages_remembered() == 0);
    CHECK(pages.start(count_up(50, 5)).pages.empty());
    auto again = pages.start(count_up(0, 5));
    CHECK(again.pages.size() == 2);
    pages.release(again);
    pages.release(used);
    pages.forget();
    CHECK(pages.pages_free() == pages.pages_total());
}

TEST_CASE("impossible options make an empty pool instead of overflowing slots") {
    kv_pages none({.pages = -5, .page_tokens = 0});
    CHECK(none.pages_total() == 0);
    CHECK(none.page_tokens() == 1);
    kv_pages big({.pages = 1 << 20, .page_tokens = 1 << 24});
    CHECK(std::int64_t{big.pages_total()} * big.page_tokens() <= 2'147'483'647);
}

TEST_CASE("random sequences never share a writable page, find only their own prefix, and leak nothing") {
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
        std::mt19937 random(seed);
        const std::int32_t size = 1 + static_cast<std::int32_t>(random() % 4);
        kv_pages pages({.pages = 12, .page_tokens = size});
        std::map<std::int32_t, std::vector<token_id>> contents; // page -> the whole prefix up to its end
        struct live {
            kv_pages::sequence_pages pages;
            std::vector<token_id> tokens;
        };
        std::vector<live> all;
        for (int action = 0; action < 200; ++action) {
            if (random() % 2) {
                live added;
                for (std::uint32_t i = 1 + random() % 20; i > 0; --i)
                    added.tokens.push_back(static_cast<token_id>(random() % 2));
                added.pages = pages.start(added.tokens);
                for (std::size_t page = 0; page < added.pages.pages.size(); ++page) {
                    const auto end = added.tokens.begin() + static_cast<std::ptrdiff_t>(page + 1) * size;
                    REQUIRE(contents.at(added.pages.pages[page].value) == std::vector(added.tokens.begin(), end));
                }
                const auto reused = added.pages.pages.size();
                if (!pages.grow(added.pages, std::ssize(added.tokens))) {
                    pages.release(added.pages);
                } else {
                    for (std::size_t page = reused; page < added.pages.pages.size(); ++page) {
                        for (const live& other : all)
                            REQUIRE(std::ranges::count(other.pages.pages, added.pages.pages[page]) == 0);
                        const auto end = std::min((page + 1) * static_cast<std::size_t>(size), added.tokens.size());
                        contents[added.pages.pages[page].value] = {
                            added.tokens.begin(), added.tokens.begin() + static_cast<std::ptrdiff_t>(end)};
                    }
                    pages.computed(added.pages, added.tokens);
                    all.push_back(std::move(added));
                }
            } else if (!all.empty()) {
                const std::size_t chosen = random() % all.size();
                pages.release(all[chosen].pages);
                all.erase(all.begin() + static_cast<std::ptrdiff_t>(chosen));
            }
            std::set<std::int32_t> used;
            for (const live& each : all)
                for (const page_id page : each.pages.pages)
                    used.insert(page.value);
            REQUIRE(pages.pages_free() + std::ssize(used) == pages.pages_total());
        }
        for (live& each : all)
            pages.release(each.pages);
        CHECK(pages.pages_free() == pages.pages_total());
        pages.forget();
        CHECK(pages.pages_remembered() == 0);
        CHECK(pages.pages_free() == pages.pages_total());
    }
}

TEST_CASE("room for drafts comes from pages that hold nothing, and goes back") {
    kv_pages pages({.pages = 4, .page_tokens = 4, .reuse_prefixes = true});
    const std::vector<token_id> prompt{1, 2, 3, 4, 5, 6, 7, 8};
    auto first = pages.start(prompt);
    REQUIRE(pages.grow(first, 8));
    pages.computed(first, prompt);
    pages.release(first);
    CHECK(pages.pages_remembered() == 2);
    auto other = pages.start(std::vector<token_id>{9});
    REQUIRE(pages.grow(other, 1));
    // Four pages, two of them remembered: one more is free.
    CHECK(pages.grow_unused(other, 3) == 4);
    CHECK(pages.grow_unused(other, 16) == 8);
    CHECK(pages.pages_remembered() == 2);
    CHECK(pages.pages_free() == 2);
    pages.shrink(other, 4);
    CHECK(other.pages.size() == 1);
    CHECK(pages.pages_free() == 3);
    pages.shrink(other, 4);
    CHECK(other.pages.size() == 1);
    pages.release(other);
    // Pages that the trie knows stay, however few tokens are asked for.
    auto again = pages.start(std::vector<token_id>{1, 2, 3, 4, 5, 6, 7, 8, 9});
    CHECK(again.registered == 2);
    pages.shrink(again, 0);
    CHECK(again.pages.size() == 2);
    pages.release(again);
    CHECK(pages.pages_free() == 4);
}
