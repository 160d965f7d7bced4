#include "core/sample/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

using namespace moira;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

token_id greedy(const std::vector<float>& logits) {
    return sample_token(logits, {}, 0, {});
}

/// The definition, written for clarity: sorts everything, keeps tables of probabilities.
std::map<token_id, double> naive_distribution(const std::vector<float>& logits, const sampling_parameters& parameters,
                                              const std::vector<token_id>& history) {
    struct entry {
        double logit, probability;
        token_id token;
    };
    std::vector<entry> entries;
    const std::set<token_id> seen(history.begin(), history.end());
    for (std::size_t i = 0; i < logits.size(); ++i) {
        double logit = logits[i];
        if (seen.contains(static_cast<token_id>(i)))
            logit = logit > 0 ? logit / parameters.repetition_penalty : logit * parameters.repetition_penalty;
        entries.push_back({logit / parameters.temperature, 0, static_cast<token_id>(i)});
    }
    std::stable_sort(entries.begin(), entries.end(), [](auto& a, auto& b) { return a.logit > b.logit; });
    if (parameters.top_k > 0 && static_cast<std::size_t>(parameters.top_k) < entries.size())
        entries.resize(static_cast<std::size_t>(parameters.top_k));
    const auto normalise = [&] {
        double total = 0;
        for (auto& each : entries)
            total += each.probability;
        for (auto& each : entries)
            each.probability /= total;
    };
    for (auto& each : entries)
        each.probability = std::exp(each.logit - entries.front().logit);
    normalise();
    double mass = 0;
    std::size_t kept = 0;
    while (kept < entries.size() && mass < parameters.top_p)
        mass += entries[kept++].probability;
    entries.resize(kept);
    const double least = parameters.min_p * entries.front().probability;
    std::erase_if(entries, [&](auto& each) { return each.probability < least; });
    normalise();
    std::map<token_id, double> distribution;
    for (auto& each : entries)
        distribution[each.token] = each.probability;
    return distribution;
}

/// The token whose interval of the cumulative distribution, in order of ids, holds `uniform`; none when rounding could
/// decide.
std::optional<token_id> naive_draw(const std::map<token_id, double>& distribution, double uniform) {
    double mass = 0;
    for (const auto& [token, probability] : distribution) {
        if (std::abs(uniform - mass) < 1e-9)
            return std::nullopt;
        mass += probability;
        if (uniform < mass)
            return std::abs(uniform - mass) < 1e-9 ? std::nullopt : std::optional(token);
    }
    return std::nullopt;
}

} // namespace

TEST_CASE("greedy takes the highest logit, the lower id of equals, and never NaN") {
    CHECK(greedy({1.0f, 3.0f, 2.0f}) == 1);
    CHECK(greedy({1.0f, 3.0f, 3.0f}) == 1);
    CHECK(greedy({not_a_number, 1.0f, 2.0f, not_a_number}) == 2);
    CHECK(greedy({not_a_number, -infinity}) == 1);
    CHECK(greedy({-infinity, -infinity}) == 0);
    CHECK(greedy({not_a_number, not_a_number}) == 0);
    CHECK(greedy({1.0f, infinity, infinity}) == 1);
    CHECK(greedy({-0.0f, 0.0f}) == 0);
}

TEST_CASE("greedy finds the best token at every place of rows of every length") {
    for (std::size_t size = 1; size < 70; ++size)
        for (std::size_t best = 0; best < size; ++best) {
            std::vector<float> logits(size, -3.0f);
            logits[best] = -2.0f;
            logits[size - 1] = std::max(logits[size - 1], -2.0f);
            logits[(best * 7 + 3) % size] = best == (best * 7 + 3) % size ? -2.0f : not_a_number;
            REQUIRE(greedy(logits) == static_cast<token_id>(best));
        }
}

TEST_CASE("infinite and missing logits have defined draws") {
    sampling_parameters parameters{.temperature = 1.0, .seed = 3};
    for (std::int64_t position = 0; position < 200; ++position) {
        const auto draw = [&](const std::vector<float>& logits) {
            return sample_token(logits, parameters, position, {});
        };
        CHECK(draw({not_a_number, -infinity, -infinity}) == 1);
        CHECK(draw({not_a_number, not_a_number}) == 0);
        CHECK(draw({5.0f, infinity, not_a_number}) == 1);
        const token_id one_of_two = draw({infinity, 5.0f, infinity});
        CHECK((one_of_two == 0 || one_of_two == 2));
        CHECK(draw({not_a_number, 1.0f, -infinity}) == 1);
    }
}

TEST_CASE("a repetition penalty counts a token once and moves both signs down") {
    const std::vector<token_id> history{0, 0, 0, 0, 99, -1};
    sampling_parameters parameters{.repetition_penalty = 2.0};
    CHECK(sample_token(std::vector<float>{4.0f, 1.9f}, parameters, 0, history) == 0); // 2.0 against 1.9
    CHECK(sample_token(std::vector<float>{4.0f, 2.1f}, parameters, 0, history) == 1);
    CHECK(sample_token(std::vector<float>{-1.0f, -1.9f}, parameters, 0, history) == 1); // -2.0 against -1.9
    parameters.repetition_penalty = 1.0;
    CHECK(sample_token(std::vector<float>{4.0f, 2.1f}, parameters, 0, history) == 0);
}

TEST_CASE("draws equal the naive model over random settings") {
    std::mt19937 random(20'240);
    std::normal_distribution<float> normal(0.0f, 3.0f);
    int compared = 0;
    for (int round = 0; round < 1'500; ++round) {
        std::vector<float> logits(2 + random() % 300);
        for (float& logit : logits)
            logit = round % 3 == 0 ? std::round(normal(random)) : normal(random); // rounding makes ties
        sampling_parameters parameters;
        parameters.temperature = 0.1 + static_cast<double>(random() % 30) / 10;
        parameters.top_k = random() % 2 ? 0 : static_cast<std::int32_t>(random() % 320);
        parameters.top_p = random() % 2 ? 1.0 : static_cast<double>(1 + random() % 99) / 100.5;
        parameters.min_p = random() % 2 ? 0.0 : static_cast<double>(random() % 100) / 100.7;
        parameters.repetition_penalty = random() % 2 ? 1.0 : 0.5 + static_cast<double>(random() % 20) / 10;
        parameters.seed = random();
        std::vector<token_id> history(random() % 20);
        for (token_id& token : history)
            token = static_cast<token_id>(random() % logits.size());
        const std::int64_t position = static_cast<std::int64_t>(random() % 100'000);
        const auto distribution = naive_distribution(logits, parameters, history);
        const auto expected =
            naive_draw(distribution, uniform_at(parameters.seed, static_cast<std::uint64_t>(position)));
        if (!expected)
            continue;
        ++compared;
        INFO("round ", round, " of ", logits.size(), " logits");
        CHECK(sample_token(logits, parameters, position, history) == *expected);
    }
    CHECK(compared > 1'000);
}

TEST_CASE("draws along positions follow the distribution") {
    const std::vector<float> logits{0.0f, 1.0f, -1.0f, 2.0f, 0.5f, 0.5f, -2.0f, 1.5f};
    for (const sampling_parameters parameters :
         {sampling_parameters{.temperature = 1.0, .seed = 11}, sampling_parameters{.temperature = 0.5, .seed = 12},
          sampling_parameters{.temperature = 2.0, .top_k = 5, .seed = 13},
          sampling_parameters{.temperature = 1.0, .top_p = 0.8, .seed = 14},
          sampling_parameters{.temperature = 1.0, .min_p = 0.2, .seed = 15}}) {
        constexpr int draws = 20'000;
        std::map<token_id, int> counts;
        for (std::int64_t position = 0; position < draws; ++position)
            ++counts[sample_token(logits, parameters, position, {})];
        const auto distribution = naive_distribution(logits, parameters, {});
        CHECK(counts.size() == distribution.size());
        double chi_square = 0;
        for (const auto& [token, probability] : distribution) {
            const double expected = probability * draws;
            chi_square += (counts[token] - expected) * (counts[token] - expected) / expected;
        }
        // At most 7 degrees of freedom: 35 is beyond the 0.99998 quantile.
        CHECK(chi_square < 35);
    }
}

TEST_CASE("min_p of one keeps the best token and its equals") {
    const std::vector<float> logits{1.0f, 2.0f, 2.0f, 1.9f};
    std::set<token_id> drawn;
    for (std::int64_t position = 0; position < 100; ++position)
        drawn.insert(sample_token(logits, {.temperature = 1.0, .min_p = 1.0}, position, {}));
    CHECK(drawn == std::set<token_id>{1, 2});
}

TEST_CASE("a vocabulary of real size samples the same with filters that keep everything") {
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0.0f, 2.0f);
    std::vector<float> logits(50'000);
    for (float& logit : logits)
        logit = normal(random);
    for (std::int64_t position = 0; position < 5; ++position) {
        const token_id plain = sample_token(logits, {.temperature = 1.0}, position, {});
        CHECK(sample_token(logits, {.temperature = 1.0, .top_k = 50'000}, position, {}) == plain);
        CHECK(sample_token(logits, {.temperature = 1.0, .top_k = 2'147'483'647}, position, {}) == plain);
        CHECK(sample_token(logits, {.temperature = 1.0, .top_k = 1}, position, {}) == greedy(logits));
        CHECK(sample_token(logits, {.temperature = 1.0, .top_p = 1e-12}, position, {}) == greedy(logits));
        CHECK(sample_token(logits, {.temperature = 1e-300}, position, {}) == greedy(logits));
    }
}

TEST_CASE("settings inside their ranges pass and everything else names the field") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double inf = std::numeric_limits<double>::infinity();
    const auto refused = [](const sampling_parameters& parameters, const char* field) {
        const auto checked = check_sampling(parameters);
        return !checked && checked.error().code == errc::invalid_argument &&
               checked.error().message.find(field) != std::string::npos;
    };
    CHECK(check_sampling({}));
    CHECK(check_sampling(
        {.temperature = 100, .top_k = 2'147'483'647, .top_p = 1e-9, .min_p = 1, .repetition_penalty = 100}));
    for (const double bad : {-0.1, 100.1, nan, inf, -inf})
        CHECK(refused({.temperature = bad}, "temperature"));
    for (const double bad : {0.0, -1.0, 1.1, nan, inf})
        CHECK(refused({.top_p = bad}, "top_p"));
    for (const double bad : {-0.1, 1.1, nan, inf})
        CHECK(refused({.min_p = bad}, "min_p"));
    for (const double bad : {0.0, -1.0, 101.0, nan, inf})
        CHECK(refused({.repetition_penalty = bad}, "repetition_penalty"));
    CHECK(refused({.top_k = -1}, "top_k"));
}
