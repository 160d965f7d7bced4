#include "tests/batch/batching_engine.hpp"

#include <algorithm>
#include <array>

using namespace moira;
using namespace moira::test;
using namespace std::chrono_literals;

TEST_CASE("finish reasons have their wire names") {
    CHECK(finish_reason_name(finish_reason::stop) == "stop");
    CHECK(finish_reason_name(finish_reason::length) == "length");
    CHECK(finish_reason_name(finish_reason::cancelled) == "cancelled");
    CHECK(finish_reason_name(finish_reason::error) == "error");
}

TEST_CASE("an idle batcher has no plan") {
    batching_engine machine(small_options());
    CHECK(machine.batch.idle());
    CHECK(machine.plan() == nullptr);
    CHECK(machine.batch.advance({}, start).empty());
}

TEST_CASE("a request gives the tokens, text and hash that it gives alone") {
    batching_engine machine(small_options());
    const auto request = make_request(1, 20);
    REQUIRE(machine.batch.admit(request, start));
    CHECK_FALSE(machine.batch.idle());
    machine.run();
    machine.check_equals_alone(request);
    const auto counts = machine.batch.statistics();
    CHECK(counts.admitted == 1);
    CHECK(counts.finished == 1);
    CHECK(counts.prompt_tokens == 20);
    CHECK(counts.completion_tokens == 6);
    CHECK(counts.steps == 3 + 5); // chunks of 8, 8, 4, the last with the first token, then five decode steps
    CHECK(counts.rows == 20 + 5);
    CHECK(counts.pages_free == counts.pages_total);
}

TEST_CASE("only one step is in flight") {
    batching_engine machine(small_options());
    REQUIRE(machine.batch.admit(make_request(1, 3), start));
    const auto first = machine.plan();
    REQUIRE(first);
    CHECK(machine.plan() == nullptr);
    step_result stale;
    stale.number = first->number + 1;
    CHECK(machine.batch.advance(stale, start).empty());
    CHECK(machine.plan() == nullptr);
    CHECK(machine.finish_step(*first).size() == 1);
    CHECK(machine.plan() != nullptr);
}

TEST_CASE("a plan says whose rows it has and who has ended since the plan before") {
    batching_engine tested(small_options());
    REQUIRE(tested.batch.admit(make_request(1, 2, 1), start));
    REQUIRE(tested.batch.admit(make_request(2, 3, 2), start));
    auto plan = tested.plan();
    REQUIRE(plan);
    CHECK(plan->requests.size() == 5);
    CHECK(std::count(plan->requests.begin(), plan->requests.end(), request_id{2}) == 3);
    CHECK(plan->ended.empty());
    tested.finish_step(*plan);
    plan = tested.plan();
    REQUIRE(plan);
    CHECK(plan->requests == std::vector{request_id{2}});
    CHECK(plan->ended == std::vector{request_id{1}});
    tested.finish_step(*plan);
}

TEST_CASE("decode rows come first and prompt chunks share the rest in order of arrival") {
    batching_engine machine(small_options());
    REQUIRE(machine.batch.admit(make_request(1, 2), start));
    machine.finish_step(*machine.plan());
    REQUIRE(machine.batch.admit(make_request(2, 20), start));
    REQUIRE(machine.batch.admit(make_request(3, 20), start));
    const auto plan = machine.plan();
    REQUIRE(plan);
    CHECK(plan->sequences == 3);
    CHECK(plan->positions == std::vector<std::int32_t>{2, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6});
    REQUIRE(plan->samples.size() == 1);
    CHECK(plan->samples[0].request == request_id{1});
    machine.finish_step(*plan);
    machine.run();
}

TEST_CASE("admission refuses duplicates, a full queue, empty requests and what can never fit") {
    auto options = small_options();
    options.kv.pages = 5; // 20 token slots
    batching_engine machine(options);
    const auto code = [&](const generation_request& request) {
        const auto admitted = machine.batch.admit(request, start);
        return admitted ? std::optional<errc>{} : admitted.error().code;
    };
    CHECK(code(make_request(1, 64)) == errc::prompt_too_long);
    CHECK(code(make_request(1, 10, 11)) == errc::prompt_too_long);
    CHECK(code(make_request(1, 0)) == errc::invalid_argument);
    CHECK(code(make_request(1, 3, 0)) == errc::invalid_argument);
    CHECK_FALSE(code(make_request(1, 10, 10)));
    CHECK(code(make_request(1, 3)) == errc::duplicate_id);
    for (std::uint64_t id = 2; id <= 4; ++id)
        CHECK_FALSE(code(make_request(id, 3)));
    CHECK(code(make_request(5, 3)) == errc::queue_full);
    machine.finish_step(*machine.plan());
    CHECK(code(make_request(1, 3)) == errc::duplicate_id); // running now
    CHECK_FALSE(code(make_request(5, 3)));
    machine.run();
    CHECK_FALSE(code(make_request(1, 3))); // finished, so the id is free again
    CHECK(machine.ended.size() == 5);
    CHECK(machine.batch.statistics().admitted == 6);
}

TEST_CASE("the context bounds a request whose tokens_max does not") {
    auto options = small_options();
    options.context_max = 12;
    batching_engine machine(options);
    const auto request = make_request(1, 11, 1'000'000);
    REQUIRE(machine.batch.admit(request, start));
    CHECK(machine.batch.admit(make_request(2, 12), start).error().code == errc::prompt_too_long);
    machine.run();
    machine.check_equals_alone(request);
    CHECK(machine.ended.at(1).reason == finish_reason::length);
    CHECK(machine.ended.at(1).completion_tokens == 1);
}

TEST_CASE("a second request reuses the first one's prompt and says so") {
    for (const bool reuse : {true, false}) {
        auto options = small_options();
        options.kv.reuse_prefixes = reuse;
        batching_engine machine(options);
        auto first = make_request(1, 17);
        auto second = first;
        second.id = {2};
        second.sampling.temperature = 1.0;
        REQUIRE(machine.batch.admit(first, start));
        machine.run();
        REQUIRE(machine.batch.admit(second, start));
        machine.run();
        machine.check_equals_alone(first);
        machine.check_equals_alone(second);
        CHECK(machine.ended.at(1).cached_tokens == 0);
        CHECK(machine.ended.at(2).cached_tokens == (reuse ? 16 : 0));
        CHECK(machine.batch.statistics().cached_tokens == (reuse ? 16 : 0));
    }
}

TEST_CASE("when pages run out the newest waits and its text does not change") {
    for (const bool reuse : {true, false}) {
        auto options = small_options();
        options.kv = {.pages = 8, .page_tokens = 4, .reuse_prefixes = reuse};
        batching_engine machine(options);
        std::vector<generation_request> requests;
        for (std::uint64_t id = 1; id <= 3; ++id) {
            requests.push_back(make_request(id, 6, 20));
            REQUIRE(machine.batch.admit(requests.back(), start));
        }
        machine.run();
        for (const auto& request : requests)
            machine.check_equals_alone(request);
        CHECK(machine.ended.at(1).preemptions == 0);
        CHECK(machine.ended.at(3).preemptions > 0);
        CHECK(machine.batch.statistics().preemptions > 0);
        CHECK(machine.batch.statistics().pages_free == 8);
    }
}

TEST_CASE("a preempted request returns only when all its tokens have room") {
    auto options = small_options();
    options.chunk_tokens_max = 4;
    options.kv = {.pages = 5, .page_tokens = 4, .reuse_prefixes = false};
    batching_engine machine(options);
    const auto elder = make_request(1, 4, 12);
    const auto younger = make_request(2, 8, 8);
    REQUIRE(machine.batch.admit(elder, start));
    REQUIRE(machine.batch.admit(younger, start));
    machine.run();
    machine.check_equals_alone(elder);
    machine.check_equals_alone(younger);
    // Room for its first chunk is there long before the elder ends; returning then would end in a second preemption.
    CHECK(machine.ended.at(2).preemptions == 1);
}

TEST_CASE("forced preemption takes the newest, keeps the order, and ignores rows in flight") {
    auto options = small_options();
    options.kv.reuse_prefixes = false;
    batching_engine machine(options);
    std::vector<generation_request> requests;
    for (std::uint64_t id = 1; id <= 3; ++id) {
        requests.push_back(make_request(id, 6, 10));
        REQUIRE(machine.batch.admit(requests.back(), start));
    }
    for (int step = 0; step < 4; ++step)
        machine.finish_step(*machine.plan());
    const auto plan = machine.plan();
    machine.batch.preempt(2);
    CHECK(machine.batch.statistics().waiting == 2);
    const auto outputs = machine.finish_step(*plan);
    REQUIRE(outputs.size() == 1);
    CHECK(outputs[0].id == request_id{1});
    const auto next = machine.plan();
    // One decode row, then the second request's prompt from its beginning, then the third's.
    CHECK(next->positions == std::vector<std::int32_t>{10, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6});
    CHECK(next->tokens[1] == requests[1].prompt[0]);
    CHECK(next->tokens[9] == requests[2].prompt[0]);
    machine.finish_step(*next);
    machine.batch.preempt(100);
    CHECK(machine.batch.statistics().running == 0);
    machine.run();
    for (const auto& request : requests)
        machine.check_equals_alone(request);
    CHECK(machine.ended.at(1).preemptions == 1);
    CHECK(machine.ended.at(2).preemptions == 2);
}

TEST_CASE("a stream that restarts loses no request that was preempted before the failure was told") {
    batching_engine machine(small_options());
    const auto request = make_request(1, 6, 10);
    REQUIRE(machine.batch.admit(request, start));
    machine.finish_step(*machine.plan());
    const auto plan = machine.plan();
    machine.batch.preempt(1);
    CHECK(machine.take(machine.batch.advance(machine.stream.break_down(*plan), start)).empty());
    machine.run();
    machine.check_equals_alone(request);
}

TEST_CASE("cancelling in flight ends at once and keeps the pages until the step returns") {
    batching_engine machine(small_options());
    REQUIRE(machine.batch.admit(make_request(1, 8), start));
    REQUIRE(machine.batch.admit(make_request(2, 8), start));
    machine.finish_step(*machine.plan());
    const auto plan = machine.plan();
    const auto free_before = machine.batch.statistics().pages_free;
    const auto output = machine.batch.cancel({1}, finish_reason::cancelled, std::nullopt, start);
    REQUIRE(output);
    CHECK(output->finished->reason == finish_reason::cancelled);
    CHECK(output->finished->completion_tokens == 1);
    CHECK(machine.batch.statistics().pages_free == free_before);
    CHECK_FALSE(machine.batch.cancel({1}, finish_reason::cancelled, std::nullopt, start));

    const auto reborn = make_request(1, 9); // the id is free again, though the old row is still in flight
    REQUIRE(machine.batch.admit(reborn, start));
    const auto outputs = machine.finish_step(*plan);
    REQUIRE(outputs.size() == 1);
    CHECK(outputs[0].id == request_id{2});
    machine.run();
    machine.check_equals_alone(reborn);
    machine.check_equals_alone(make_request(2, 8));
    CHECK(machine.batch.statistics().cancelled == 1);
    CHECK(machine.batch.statistics().pages_free == machine.batch.statistics().pages_total);
}

TEST_CASE("a waiting request can be cancelled with an error of the caller's") {
    auto options = small_options();
    options.sequences_max = 1;
    batching_engine machine(options);
    REQUIRE(machine.batch.admit(make_request(1, 8), start));
    REQUIRE(machine.batch.admit(make_request(2, 8), start));
    machine.finish_step(*machine.plan());
    const auto output =
        machine.batch.cancel({2}, finish_reason::error, error{errc::too_slow, "the client reads nothing"}, start);
    REQUIRE(output);
    CHECK(output->finished->failure->code == errc::too_slow);
    CHECK(machine.batch.statistics().waiting == 0);
    CHECK(machine.batch.statistics().failed == 1);
    machine.run();
}

TEST_CASE("deadlines end running and waiting requests, with the token of the same step") {
    auto options = small_options();
    options.sequences_max = 1;
    batching_engine machine(options);
    auto running = make_request(1, 4, 50);
    running.deadline = start + 1s;
    auto waiting = make_request(2, 4);
    waiting.deadline = start + 1s;
    const auto patient = make_request(3, 4);
    REQUIRE(machine.batch.admit(running, start));
    REQUIRE(machine.batch.admit(waiting, start));
    REQUIRE(machine.batch.admit(patient, start));
    machine.finish_step(*machine.plan());
    CHECK(machine.ended.empty());
    const auto plan = machine.plan();
    const auto outputs = machine.take(machine.batch.advance(machine.stream.run(*plan), start + 1s));
    REQUIRE(outputs.size() == 2);
    CHECK(outputs[0].id == request_id{1});
    CHECK(outputs[0].tokens.size() == 1);
    CHECK(machine.ended.at(1).completion_tokens == 2);
    CHECK(machine.ended.at(1).failure->code == errc::deadline_exceeded);
    CHECK(machine.ended.at(2).failure->code == errc::deadline_exceeded);
    machine.run();
    machine.check_equals_alone(patient);
}

TEST_CASE("fail_all ends everything, and the step in flight is still awaited") {
    auto options = small_options();
    options.sequences_max = 1;
    batching_engine machine(options);
    REQUIRE(machine.batch.admit(make_request(1, 4), start));
    REQUIRE(machine.batch.admit(make_request(2, 4), start));
    const auto plan = machine.plan();
    const auto outputs = machine.take(machine.batch.fail_all({errc::draining, "shutting down"}, start));
    REQUIRE(outputs.size() == 2);
    CHECK(machine.ended.at(2).failure->code == errc::draining);
    CHECK_FALSE(machine.batch.idle());
    CHECK(machine.finish_step(*plan).empty());
    CHECK(machine.batch.idle());
    CHECK(machine.batch.statistics().pages_free == options.kv.pages);
}

TEST_CASE("more sequences than rows are not started, so every running one moves in every step") {
    auto options = small_options();
    options.sequences_max = 10;
    options.step_tokens_max = 2;
    batching_engine machine(options);
    for (std::uint64_t id = 1; id <= 4; ++id)
        REQUIRE(machine.batch.admit(make_request(id, 3), start));
    for (auto plan = machine.plan(); plan; plan = machine.plan()) {
        CHECK(plan->rows() <= 2);
        CHECK(machine.batch.statistics().running <= 2);
        machine.finish_step(*plan);
    }
    for (std::uint64_t id = 1; id <= 4; ++id)
        machine.check_equals_alone(make_request(id, 3));
}

TEST_CASE("options out of range and a batcher without a tokenizer still work") {
    batch_options options;
    options.sequences_max = 0;
    options.step_tokens_max = -1;
    options.chunk_tokens_max = 0;
    options.kv = {.pages = 8, .page_tokens = 4};
    batcher batch(options, {});
    fake_stream stream(8, 4, fake_vocabulary);
    REQUIRE(batch.admit(make_request(1, 4), start));
    std::vector<token_id> tokens;
    for (auto plan = batch.next_plan(start); plan; plan = batch.next_plan(start)) {
        CHECK(plan->rows() == 1);
        for (const auto& output : batch.advance(stream.run(*plan), start))
            for (const auto& each : output.tokens)
                tokens.push_back(each.token);
    }
    CHECK(tokens == generate_alone(make_request(1, 4), 100).token_ids);
}
