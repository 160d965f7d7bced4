#include "actors/runtime_guard.hpp"

#include "actors/caf_edition.hpp"
#include "tests/actors/actor_world.hpp"

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>
#include <doctest/doctest.h>

using namespace moira;

namespace {

/// What a runtime in another process was asked for.
struct remote_record {
    std::vector<std::pair<std::uint64_t, text_sink_actor>> submitted, cancelled;
    std::uint32_t granted = 0;
};

runtime_actor::behavior_type fake_remote(runtime_actor::pointer, const std::shared_ptr<remote_record>& record) {
    return {
        [=](submit_atom, const prompt_request& request, const text_sink_actor& sink) {
            record->submitted.emplace_back(request.tag, sink);
        },
        [=](grant_atom, std::uint64_t, std::uint32_t count, const text_sink_actor&) { record->granted += count; },
        [=](cancel_atom, std::uint64_t tag, const text_sink_actor& sink) { record->cancelled.emplace_back(tag, sink); },
        [=](drain_atom) -> caf::result<bool> { return true; },
        [=](stats_atom) -> caf::result<runtime_counters> { return runtime_counters{}; },
        [=](listen_atom, const std::string&, const std::string& address) { return address; },
    };
}

struct heard {
    std::string text;
    std::vector<text_end> ends;
};

text_sink_actor::behavior_type listening_sink(text_sink_actor::pointer, const std::shared_ptr<heard>& record) {
    return {
        [=](const text_delta& more) { record->text += more.text; },
        [=](const text_end& last) { record->ends.push_back(last); },
    };
}

/// A guard before a fake runtime, on CAF's deterministic scheduler.
class guarded {
public:
    guarded() : system_(config_) {
        remote = system_.spawn(fake_remote, asked);
        guard = spawn_runtime_guard(system_, remote);
        sink = system_.spawn(listening_sink, told);
        settle();
    }
    ~guarded() {
        for (const auto& each : {caf::actor_cast<caf::actor>(remote), caf::actor_cast<caf::actor>(guard),
                                 caf::actor_cast<caf::actor>(sink)})
            end_now(each, caf::exit_reason::user_shutdown);
        settle();
    }

    void settle() { dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler()).run(); }

    void submit(std::uint64_t tag) {
        prompt_request request;
        request.tag = tag;
        caf::anon_send(guard, submit_atom{}, request, sink);
        settle();
    }

    caf::actor_system& system() { return system_; }

    std::shared_ptr<remote_record> asked = std::make_shared<remote_record>();
    std::shared_ptr<heard> told = std::make_shared<heard>();
    runtime_actor remote, guard;
    text_sink_actor sink;

private:
    world_config config_;
    caf::actor_system system_;
};

template <class T>
T through_bytes(caf::actor_system& system, T value) {
    std::vector<char> bytes;
    caf::binary_serializer save(system, bytes);
    REQUIRE_FALSE(save(value));
    T copy;
    caf::binary_deserializer load(system, bytes);
    REQUIRE_FALSE(load(copy));
    return copy;
}

} // namespace

TEST_CASE("a guard passes requests, text and grants on under its own tags") {
    guarded world;
    world.submit(42);
    REQUIRE(world.asked->submitted.size() == 1);
    const auto [tag, as_sink] = world.asked->submitted.front();
    caf::anon_send(as_sink, text_delta{tag, {1, 2}, "ab"});
    caf::anon_send(world.guard, grant_atom{}, std::uint64_t{42}, std::uint32_t{3}, world.sink);
    text_end last;
    last.tag = tag;
    last.finish_reason = "stop";
    caf::anon_send(as_sink, last);
    world.settle();
    CHECK(world.told->text == "ab");
    CHECK(world.asked->granted == 3);
    REQUIRE(world.told->ends.size() == 1);
    CHECK(world.told->ends.front().tag == 42);
    CHECK(world.told->ends.front().finish_reason == "stop");
}

TEST_CASE("the death of the remote runtime fails what is open, and new requests at once") {
    guarded world;
    world.submit(1);
    world.submit(2);
    end_now(world.remote, caf::exit_reason::kill);
    world.settle();
    REQUIRE(world.told->ends.size() == 2);
    CHECK(world.told->ends[0].code == "restarted");
    CHECK(world.told->ends[1].tag == 2);
    world.submit(3);
    REQUIRE(world.told->ends.size() == 3);
    CHECK(world.told->ends[2].code == "restarted");
}

TEST_CASE("the death of a sink cancels what it has submitted through the guard") {
    guarded world;
    world.submit(1);
    end_now(world.sink, caf::exit_reason::kill);
    world.settle();
    REQUIRE(world.asked->cancelled.size() == 1);
    CHECK(world.asked->cancelled.front().first == world.asked->submitted.front().first);
}

TEST_CASE("a tag that is open is refused, and the end of the guard fails what is open") {
    guarded world;
    world.submit(1);
    world.submit(1);
    REQUIRE(world.told->ends.size() == 1);
    CHECK(world.told->ends[0].code == "duplicate_id");
    caf::anon_send_exit(world.guard, caf::exit_reason::user_shutdown);
    world.settle();
    REQUIRE(world.told->ends.size() == 2);
    CHECK(world.told->ends[1].code == "draining");
}

TEST_CASE("public messages survive their way through bytes") {
    guarded world;
    prompt_request request;
    request.tag = 7;
    request.messages = std::vector<prompt_message>{{"user", "hello"}};
    request.temperature = 0.5;
    request.stop = {"x"};
    const auto asked = through_bytes(world.system(), request);
    CHECK(asked.tag == 7);
    CHECK_FALSE(asked.prompt);
    REQUIRE(asked.messages);
    CHECK(asked.messages->front().content == "hello");
    CHECK(*asked.temperature == 0.5);
    text_end last;
    last.rest.text = "tail";
    last.plugins = {{"gemm", "cpu"}};
    last.experts.recall = 0.25;
    const auto ended = through_bytes(world.system(), last);
    CHECK(ended.rest.text == "tail");
    CHECK(ended.plugins.at("gemm") == "cpu");
    CHECK(*ended.experts.recall == 0.25);
    CHECK_FALSE(ended.experts.precision);
    runtime_counters counters;
    counters.restarts = {{"batcher", 2}};
    CHECK(through_bytes(world.system(), counters).restarts.at("batcher") == 2);
}
