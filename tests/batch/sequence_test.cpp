#include "core/batch/sequence.hpp"

#include <doctest/doctest.h>

using namespace moira;
using namespace std::chrono_literals;

namespace {

generation_request make_request(std::int32_t tokens_max, std::vector<std::string> stop = {}) {
    generation_request request;
    request.id = {1};
    request.prompt = {5, 6, 7};
    request.tokens_max = tokens_max;
    request.stop = std::move(stop);
    request.sampling.seed = 77;
    return request;
}

const sequence::time_point start{1000s};

generation_result finish(sequence& ending, finish_reason reason, sequence::time_point now = start) {
    sequence_output output;
    ending.finish(output, reason, {}, now);
    return *output.finished;
}

} // namespace

TEST_CASE("the end token counts and has no text") {
    sequence one(make_request(10), 100, start);
    CHECK_FALSE(one.accept(3, {}, "hi", false, start).ended);
    const auto last = one.accept(0, {}, "<end>", true, start);
    CHECK(last.ended == finish_reason::stop);
    CHECK(last.emitted.text.empty());
    const auto ended = finish(one, finish_reason::stop);
    CHECK(ended.text == "hi");
    CHECK(ended.token_ids == std::vector<token_id>{3, 0});
    CHECK(ended.completion_tokens == 2);
    CHECK(ended.prompt_tokens == 3);
    CHECK(ended.seed == 77);
}

TEST_CASE("an ignored end token goes on and counts toward the limit") {
    auto request = make_request(2);
    request.ignore_eos = true;
    sequence one(std::move(request), 100, start);
    CHECK_FALSE(one.accept(0, {}, "", true, start).ended);
    CHECK(one.accept(0, {}, "", true, start).ended == finish_reason::length);
}

TEST_CASE("a stop string ends the text before it and keeps the tokens") {
    sequence one(make_request(10, {"END"}), 100, start);
    CHECK(one.accept(3, {}, "abE", false, start).emitted.text == "ab");
    const auto last = one.accept(4, {}, "NDxyz", false, start);
    CHECK(last.ended == finish_reason::stop);
    CHECK(last.emitted.text.empty());
    sequence_output output;
    one.finish(output, finish_reason::stop, {}, start);
    CHECK(output.tail_text.empty());
    CHECK(output.finished->text == "ab");
    CHECK(output.finished->token_ids == std::vector<token_id>{3, 4});
}

TEST_CASE("a stop string in the last allowed token is a stop") {
    sequence one(make_request(1, {"b"}), 100, start);
    CHECK(one.accept(3, {}, "ab", false, start).ended == finish_reason::stop);
}

TEST_CASE("held-back text is released by the end") {
    sequence one(make_request(2, {"END"}), 100, start);
    one.accept(3, {}, "aEN", false, start);
    const auto last = one.accept(4, {}, "\xC3", false, start);
    CHECK(last.ended == finish_reason::length);
    sequence_output output;
    one.finish(output, finish_reason::length, {}, start);
    CHECK(output.finished->text == "aEN\xEF\xBF\xBD");
    CHECK("a" + last.emitted.text + output.tail_text == output.finished->text);
}

TEST_CASE("a full context ends with length") {
    sequence one(make_request(10), 5, start);
    CHECK_FALSE(one.accept(3, {}, "a", false, start).ended);
    CHECK(one.accept(3, {}, "a", false, start).ended == finish_reason::length);
}

TEST_CASE("times come from the moments that were passed in") {
    sequence one(make_request(10), 100, start);
    CHECK(one.start(2, start + 1s));
    one.accept(3, {}, "a", false, start + 3s);
    one.accept(3, {}, "a", false, start + 3500ms);
    one.advance(2);
    CHECK(one.uncomputed() == 1);
    one.preempt();
    CHECK(one.computed() == 0);
    CHECK_FALSE(one.start(0, start + 4s));
    one.accept(3, {}, "a", false, start + 5s);
    const auto ended = finish(one, finish_reason::length, start + 9s);
    CHECK(ended.queue_s == doctest::Approx(1));
    CHECK(ended.prefill_s == doctest::Approx(2));
    CHECK(ended.ttft_s == doctest::Approx(3));
    CHECK(ended.decode_s == doctest::Approx(2));
    REQUIRE(ended.itl_ms.size() == 2);
    CHECK(ended.itl_ms[0] == doctest::Approx(500));
    CHECK(ended.itl_ms[1] == doctest::Approx(1500));
    CHECK(ended.cached_tokens == 2);
    CHECK(ended.preemptions == 1);
}

TEST_CASE("a request that never started waited all its life") {
    sequence one(make_request(10), 100, start);
    const auto ended = finish(one, finish_reason::cancelled, start + 4s);
    CHECK(ended.queue_s == doctest::Approx(4));
    CHECK(ended.prefill_s == 0);
    CHECK(ended.ttft_s == 0);
    CHECK(ended.text.empty());
    CHECK(ended.logits_hash == logits_hash{}.hex());
}

TEST_CASE("samples of token times are bounded") {
    sequence one(make_request(10'000), 100'000, start);
    for (int i = 0; i < 5'000; ++i)
        one.accept(3, {}, "a", false, start);
    CHECK(finish(one, finish_reason::length).itl_ms.size() == generation_result::itl_samples_max);
}
