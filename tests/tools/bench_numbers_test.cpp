#include "tools/moira/bench_numbers.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace moira;
using std::chrono::milliseconds;

namespace {

bench_clock::time_point at_ms(double ms) {
    return bench_clock::time_point(
        std::chrono::duration_cast<bench_clock::duration>(std::chrono::duration<double, std::milli>(ms)));
}

token_arrivals arrivals_ms(std::initializer_list<double> times) {
    token_arrivals arrivals;
    for (const double ms : times)
        arrivals.push_back(at_ms(ms));
    return arrivals;
}

} // namespace

TEST_CASE("batches are numbers with commas, in the order given") {
    CHECK(*parse_batches("1,4,16") == std::vector<std::int32_t>{1, 4, 16});
    CHECK(*parse_batches("8") == std::vector<std::int32_t>{8});
    CHECK(*parse_batches("16,1,1") == std::vector<std::int32_t>{16, 1, 1});
    for (const char* text : {"", ",", "1,", "0", "-1", "1 ,2", "1.5", "four", "1025", "99999999999", "1;2"})
        CHECK_MESSAGE(parse_batches(text).error().code == errc::invalid_argument, text);
    std::string many = "1";
    for (std::size_t i = 0; i < bench_rows_max; ++i)
        many += ",1";
    CHECK(parse_batches(many).error().code == errc::invalid_argument);
}

TEST_CASE("a spread has the middle of odd and even counts") {
    CHECK(spread_of({3, 1, 2}).median == 2);
    CHECK(spread_of({4, 1, 2, 3}).median == 2.5);
    CHECK(spread_of({4, 1, 2, 3}).min == 1);
    CHECK(spread_of({4, 1, 2, 3}).max == 4);
    CHECK(spread_of({}).max == 0);
    CHECK(value_at_share({5, 1, 4, 2, 3}, 0.5) == 3);
    CHECK(value_at_share({5, 1, 4, 2, 3}, 0.99) == 5);
    CHECK(value_at_share({}, 0.5) == 0);
}

TEST_CASE("one sequence decodes from its first token to its last") {
    const std::vector<token_arrivals> one{arrivals_ms({10, 12, 14, 16})};
    const auto speed = speed_of(at_ms(0), one);
    CHECK(speed.prefill_s == doctest::Approx(0.010));
    CHECK(speed.decode_s == doctest::Approx(0.006));
    CHECK(speed.decode_tokens == 3);
    CHECK(speed.decode_steps == 3);
    CHECK(speed.whole_batch);
}

TEST_CASE("decoding of a batch is measured while all its sequences decode") {
    // The first sequence began alone; the second one's first token came with its second, a moment earlier.
    const std::vector<token_arrivals> two{arrivals_ms({10, 20.01, 22.01, 24.01}), arrivals_ms({20, 22, 24, 26})};
    const auto speed = speed_of(at_ms(0), two);
    CHECK(speed.prefill_s == doctest::Approx(0.020));
    CHECK(speed.decode_steps == 2);
    CHECK(speed.decode_tokens == 4);
    CHECK(speed.decode_s == doctest::Approx(0.004).epsilon(0.01));
    CHECK(speed.whole_batch);
}

TEST_CASE("a sequence that ends before another begins leaves the rest to be measured") {
    const std::vector<token_arrivals> two{arrivals_ms({10, 12}), arrivals_ms({20, 22})};
    const auto speed = speed_of(at_ms(0), two);
    CHECK_FALSE(speed.whole_batch);
    CHECK(speed.decode_tokens == 1);
    CHECK(speed.decode_steps == 1);
    CHECK(speed.decode_s == doctest::Approx(0.002));
}

TEST_CASE("experts per step are the slope of what was seen, whatever one late look says") {
    CHECK(experts_per_step({{10, 100}, {20, 300}}) == 20);
    // The look at step 10 came at that step's end; steps 12 and 15 were missed.
    CHECK(experts_per_step({{10, 120}, {11, 120}, {13, 160}, {14, 180}, {16, 220}, {17, 240}}) == 20);
    CHECK(experts_per_step({{10, 100}}) == 0);
    CHECK(experts_per_step({}) == 0);
}

TEST_CASE("evenly used experts: one row uses its own, many rows use nearly all") {
    CHECK(distinct_experts_expected(64, 8, 1) == doctest::Approx(8));
    CHECK(distinct_experts_expected(64, 8, 2) == doctest::Approx(15));
    CHECK(distinct_experts_expected(64, 8, 1000) == doctest::Approx(64));
    CHECK(distinct_experts_expected(0, 0, 4) == 0);
}

TEST_CASE("a step's weights are shared by its rows, an embedding row is each token's own") {
    weight_bytes weights;
    weights.dense = 1'100;
    weights.embedding = 100;
    weights.vocabulary = 10;
    weights.expert = 50;
    CHECK(bytes_per_token(weights, 1, 4) == doctest::Approx(10 + 1'000 + 200));
    CHECK(bytes_per_token(weights, 4, 8) == doctest::Approx(10 + 250 + 100));
    CHECK(bytes_per_token(weights, 0, 8) == 0);
}

TEST_CASE("the hash of one sequence is its own, that of several depends on all and on their order") {
    const std::string a = "0123456789abcdef", b = "fedcba9876543210";
    const auto of = [](std::vector<std::string> hashes) { return combined_hash(hashes); };
    CHECK(of({a}) == a);
    CHECK(of({a, b}).size() == 16);
    CHECK(of({a, b}) != of({b, a}));
    CHECK(of({a, a}) != of({b, b}));
    CHECK(of({a, b}) == of({a, b}));
}

TEST_CASE("prompts are the same in every run, differ between sequences and stay in the vocabulary") {
    const auto prompt = bench_prompt(3, 500, 7);
    CHECK(prompt == bench_prompt(3, 500, 7));
    CHECK(prompt != bench_prompt(4, 500, 7));
    CHECK(*std::min_element(prompt.begin(), prompt.end()) == 0);
    CHECK(*std::max_element(prompt.begin(), prompt.end()) == 6);
}
