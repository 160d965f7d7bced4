#include "core/sample/sampler.hpp"

#include <doctest/doctest.h>
#include <string>
#include <vector>
#include <xxhash.h>

using namespace moira;

TEST_CASE("the hash of nothing is the published XXH64 of an empty input") {
    CHECK(logits_hash{}.hex() == "ef46db3751d8e999");
}

TEST_CASE("rows added one by one hash as the concatenated bytes") {
    std::vector<float> logits(1'000);
    for (std::size_t i = 0; i < logits.size(); ++i)
        logits[i] = static_cast<float>(i) * 0.37f - 100.0f;
    for (const std::size_t row : {1, 3, 7, 8, 9, 250}) {
        logits_hash hash;
        for (std::size_t at = 0; at < logits.size(); at += row)
            hash.add(std::span(logits).subspan(at, std::min(row, logits.size() - at)));
        CHECK(hash.value() == XXH64(logits.data(), logits.size() * sizeof(float), 0));
    }
}

TEST_CASE("a copy carries the state and asking for the value changes nothing") {
    const std::vector<float> first{1.0f, 2.0f, 3.0f};
    const std::vector<float> second{4.0f, 5.0f};
    logits_hash hash;
    hash.add(first);
    const auto value = hash.value();
    logits_hash copy = hash;
    copy.add(second);
    CHECK(hash.value() == value);
    CHECK(copy.value() != value);
    hash.add(second);
    CHECK(hash.value() == copy.value());
}

TEST_CASE("order and sign of zero change the hash") {
    const auto of = [](std::vector<float> row) {
        logits_hash hash;
        hash.add(row);
        return hash.value();
    };
    CHECK(of({1.0f, 2.0f}) != of({2.0f, 1.0f}));
    CHECK(of({0.0f}) != of({-0.0f}));
}

TEST_CASE("hex has sixteen digits that spell the value") {
    logits_hash hash;
    hash.add(std::vector<float>{1.5f});
    CHECK(hash.hex().size() == 16);
    CHECK(std::stoull(hash.hex(), nullptr, 16) == hash.value());
}
