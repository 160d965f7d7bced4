#include "core/evaluate/token_likelihood.hpp"

#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <vector>

using namespace moira;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

logits_row row_of(const std::vector<float>& logits) {
    const auto made = logits_row::of(logits);
    REQUIRE_MESSAGE(made, made.error().message);
    return *made;
}

/// The definition, without any care for overflow, in long double.
std::vector<long double> plain_softmax(const std::vector<float>& logits) {
    long double sum = 0;
    std::vector<long double> shares;
    for (const auto logit : logits)
        sum += std::exp(static_cast<long double>(logit));
    for (const auto logit : logits)
        shares.push_back(std::exp(static_cast<long double>(logit)) / sum);
    return shares;
}

std::vector<float> random_logits(std::mt19937& random, std::size_t count) {
    std::normal_distribution<float> values(0, 4);
    std::vector<float> logits(count);
    for (auto& each : logits)
        each = values(random);
    return logits;
}

} // namespace

TEST_CASE("likelihoods of two tokens by hand") {
    // Logits log 3 and log 1: shares of 3/4 and 1/4.
    const std::vector<float> logits{std::log(3.0F), 0.0F};
    const auto row = row_of(logits);
    CHECK(row.nll(0) == doctest::Approx(0.2876820724).epsilon(1e-7));
    CHECK(row.nll(1) == doctest::Approx(1.3862943611).epsilon(1e-7));
    CHECK(row.best == 0);
}

TEST_CASE("equal logits are equally likely, and the first one counts as the best") {
    const std::vector<float> logits(1000, -3.5F);
    const auto row = row_of(logits);
    CHECK(row.nll(999) == doctest::Approx(std::log(1000.0)).epsilon(1e-12));
    CHECK(row.best == 0);
}

TEST_CASE("large logits neither overflow nor lose the difference") {
    const std::vector<float> high{10'000.0F, 9'999.0F}, low{-10'000.0F, -10'001.0F};
    CHECK(row_of(high).nll(1) == doctest::Approx(1.3132616875).epsilon(1e-9));
    CHECK(row_of(low).nll(1) == doctest::Approx(1.3132616875).epsilon(1e-9));
}

TEST_CASE("an excluded token has no share and does not disturb the others") {
    const std::vector<float> logits{-infinity, 0.0F, 0.0F};
    const auto row = row_of(logits);
    CHECK(row.nll(1) == doctest::Approx(std::log(2.0)));
    CHECK(row.nll(0) == std::numeric_limits<double>::infinity());
    CHECK(row.best == 1);
}

TEST_CASE("logits that are no numbers are refused") {
    for (const auto& wrong : std::vector<std::vector<float>>{{1, NAN, 2}, {infinity, 1}, {-infinity, -infinity}, {}}) {
        const auto made = logits_row::of(wrong);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == errc::device_error);
    }
}

TEST_CASE("the divergence of two tokens by hand") {
    // p = (3/4, 1/4), q = (1/2, 1/2): 0.75 log 1.5 + 0.25 log 0.5, and the other way round.
    const std::vector<float> p{std::log(3.0F), 0.0F}, q{5.0F, 5.0F};
    CHECK(kl_divergence(row_of(p), row_of(q)) == doctest::Approx(0.1308120359).epsilon(1e-7));
    CHECK(kl_divergence(row_of(q), row_of(p)) == doctest::Approx(0.1438410362).epsilon(1e-7));
}

TEST_CASE("the divergence is exactly zero of a row from itself and never negative") {
    std::mt19937 random(1);
    for (int round = 0; round < 200; ++round) {
        const auto logits = random_logits(random, 257);
        CHECK(kl_divergence(row_of(logits), row_of(logits)) == 0.0);
        auto near = logits;
        for (auto& each : near)
            each = std::nextafter(each, 100.0F);
        CHECK(kl_divergence(row_of(logits), row_of(near)) >= 0.0);
        // The same distribution with all logits moved: zero but for rounding.
        auto moved = logits;
        for (auto& each : moved)
            each += 64.0F;
        CHECK(kl_divergence(row_of(logits), row_of(moved)) < 1e-9);
    }
}

TEST_CASE("a token that only the reference allows makes the divergence infinite, the other way it does not count") {
    const std::vector<float> both{0.0F, 0.0F}, one{0.0F, -infinity};
    CHECK(kl_divergence(row_of(both), row_of(one)) == std::numeric_limits<double>::infinity());
    CHECK(kl_divergence(row_of(one), row_of(both)) == doctest::Approx(std::log(2.0)));
    CHECK(kl_divergence(row_of(one), row_of(one)) == 0.0);
}

TEST_CASE("likelihood and divergence agree with the plain definition on random rows") {
    std::mt19937 random(2);
    for (int round = 0; round < 100; ++round) {
        const auto p = random_logits(random, 129), q = random_logits(random, 129);
        const auto plain_p = plain_softmax(p), plain_q = plain_softmax(q);
        long double divergence = 0;
        for (std::size_t token = 0; token < p.size(); ++token)
            divergence += plain_p[token] * std::log(plain_p[token] / plain_q[token]);
        CHECK(kl_divergence(row_of(p), row_of(q)) == doctest::Approx(static_cast<double>(divergence)).epsilon(1e-12));
        CHECK(row_of(p).nll(7) == doctest::Approx(static_cast<double>(-std::log(plain_p[7]))).epsilon(1e-12));
    }
}
