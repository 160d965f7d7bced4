#pragma once

#include "core/batch/batcher.hpp"
#include "tests/batch/fake_stream.hpp"
#include "tests/batch/reference_generation.hpp"

#include <chrono>
#include <doctest/doctest.h>
#include <map>
#include <memory>
#include <vector>

namespace moira::test {

inline const batcher::time_point start{std::chrono::seconds(1000)};

inline batch_options small_options() {
    batch_options options;
    options.sequences_max = 4;
    options.step_tokens_max = 16;
    options.chunk_tokens_max = 8;
    options.queue_max = 4;
    options.context_max = 64;
    options.vocabulary = fake_vocabulary;
    options.eos = {fake_eos};
    options.kv = {.pages = 32, .page_tokens = 4, .reuse_prefixes = true};
    return options;
}

inline generation_request make_request(std::uint64_t id, int prompt_tokens, std::int32_t tokens_max = 6) {
    generation_request request;
    request.id = {id};
    for (int i = 0; i < prompt_tokens; ++i)
        request.prompt.push_back(static_cast<token_id>((id * 7 + static_cast<std::uint64_t>(i)) % fake_vocabulary));
    request.tokens_max = tokens_max;
    request.ignore_eos = true;
    return request;
}

/// A batcher with a stream behind it.
struct batching_engine {
    batch_options options;
    batcher batch;
    fake_stream stream;
    std::map<std::uint64_t, generation_result> ended;

    explicit batching_engine(const batch_options& wanted)
        : options(wanted), batch(wanted, fake_bytes),
          stream(wanted.kv.pages, wanted.kv.page_tokens, wanted.vocabulary) {}

    std::vector<sequence_output> take(std::vector<sequence_output> outputs) {
        for (const auto& each : outputs)
            if (each.finished)
                REQUIRE(ended.emplace(each.id.value, *each.finished).second);
        return outputs;
    }

    std::shared_ptr<const step_plan> plan() { return batch.next_plan(start); }

    std::vector<sequence_output> finish_step(const step_plan& plan) {
        return take(batch.advance(stream.run(plan), start));
    }

    void run() {
        for (int step = 0; step < 10'000; ++step) {
            const auto next = plan();
            if (!next)
                break;
            finish_step(*next);
        }
        REQUIRE(batch.idle());
    }

    void check_equals_alone(const generation_request& request) {
        const auto expected = generate_alone(request, options.context_max);
        REQUIRE(ended.contains(request.id.value));
        const generation_result& result = ended.at(request.id.value);
        CHECK(result.token_ids == expected.token_ids);
        CHECK(result.text == expected.text);
        CHECK(result.logits_hash == expected.logits_hash);
        CHECK(result.reason == expected.reason);
    }
};

} // namespace moira::test
