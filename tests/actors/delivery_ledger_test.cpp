#include "actors/delivery_ledger.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("what happens without credit comes in one delta with the next credit") {
    delivery_ledger ledger;
    const auto number = ledger.open(1, 9, 1);
    REQUIRE(number);
    const auto first = ledger.add(*number, {5}, "a");
    REQUIRE(first);
    CHECK(first->of.tag == 9);
    CHECK(first->content.token_ids == std::vector<token_id>{5});
    CHECK_FALSE(ledger.add(*number, {6}, "b"));
    CHECK_FALSE(ledger.add(*number, {7, 8}, "c"));
    const auto second = ledger.grant(*number, 2);
    REQUIRE(second);
    CHECK(second->content.token_ids == std::vector<token_id>{6, 7, 8});
    CHECK(second->content.text == "bc");
    CHECK(ledger.add(*number, {9}, ""));
    CHECK_FALSE(ledger.add(*number, {10}, "d"));
    const auto last = ledger.close(*number);
    REQUIRE(last);
    CHECK(last->content.text == "d");
    CHECK_FALSE(ledger.close(*number));
}

TEST_CASE("credit beyond its bound is refused in a request and cut in a grant") {
    delivery_ledger ledger;
    CHECK(ledger.open(1, 1, delta_credit_max + 1).error().code == errc::invalid_argument);
    const auto number = ledger.open(1, 1, delta_credit_max);
    REQUIRE(number);
    CHECK_FALSE(ledger.grant(*number, 0xffff'ffff));
    CHECK(ledger.add(*number, {1}, "x"));
}

TEST_CASE("a tag is open once for each sink") {
    delivery_ledger ledger;
    REQUIRE(ledger.open(1, 1, 1));
    CHECK(ledger.open(1, 1, 1).error().code == errc::duplicate_id);
    const auto other = ledger.open(2, 1, 1);
    REQUIRE(other);
    CHECK(ledger.number_of(2, 1) == *other);
    ledger.close(*other);
    CHECK(ledger.open(2, 1, 1));
}

TEST_CASE("requests have a bound") {
    delivery_ledger ledger;
    for (std::uint64_t tag = 0; tag < embedded_requests_max; ++tag)
        REQUIRE(ledger.open(1, tag, 1));
    CHECK(ledger.open(1, embedded_requests_max, 1).error().code == errc::queue_full);
    ledger.close(*ledger.number_of(1, 0));
    CHECK(ledger.open(1, embedded_requests_max, 1));
}

TEST_CASE("a lost sink takes its requests and no others with it") {
    delivery_ledger ledger;
    const auto first = ledger.open(1, 1, 1), second = ledger.open(1, 2, 1), other = ledger.open(2, 1, 1);
    CHECK(ledger.forget(1) == std::vector<std::uint64_t>{*first, *second});
    CHECK_FALSE(ledger.has_open(1));
    CHECK_FALSE(ledger.add(*first, {1}, "x"));
    CHECK(ledger.has_open(2));
    CHECK(ledger.open_numbers() == std::vector<std::uint64_t>{*other});
}
