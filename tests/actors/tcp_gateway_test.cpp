#include "actors/caf_edition.hpp"
#include "actors/gateway.hpp"
#include "tests/actors/http_replies.hpp"
#include "tests/actors/tcp_client.hpp"

#include <atomic>
#include <doctest/doctest.h>
#include <memory>
#include <thread>

using namespace moira;

namespace {

/// What reached the intake behind the gateway under test.
struct intake_record {
    std::atomic<int> submitted{0}, cancelled{0};
    std::atomic<bool> answers_statistics{true};
};

class intake_stub_state {
public:
    intake_stub_state() = default;
    std::shared_ptr<intake_record> record;
};

output_batch_ptr news(std::uint64_t tag, finish_reason reason) {
    auto batch = std::make_shared<output_batch>();
    output_event event;
    event.tag = tag;
    if (reason == finish_reason::length)
        event.tokens.push_back({7, "word"});
    event.finished.emplace();
    event.finished->reason = reason;
    event.finished->text = reason == finish_reason::length ? "word" : "";
    event.finished->prompt_tokens = 1;
    batch->events.push_back(std::move(event));
    return batch;
}

/// Answers "now" with one token at once; everything else runs until it is cancelled.
intake_actor::behavior_type intake_stub(intake_actor::stateful_pointer<intake_stub_state> self,
                                        std::shared_ptr<intake_record> record) {
    self->state.record = std::move(record);
    return {
        [self](submit_atom, std::uint64_t tag, const generation_input_ptr& input, const sink_actor& sink) {
            ++self->state.record->submitted;
            if (input->prompt == "now")
                self->send(sink, news(tag, finish_reason::length));
        },
        [self](cancel_atom, std::uint64_t tag, const sink_actor& sink) {
            ++self->state.record->cancelled;
            self->send(sink, news(tag, finish_reason::cancelled));
        },
        [](fault_atom) {},
        [](ready_atom, const admitted_request_ptr&) {},
        [](drain_atom) { return true; },
        [self](stats_atom) -> caf::result<runtime_statistics_ptr> {
            if (!self->state.record->answers_statistics)
                return caf::make_error(caf::sec::runtime_error);
            return std::make_shared<const runtime_statistics>();
        },
    };
}

/// An actor system with a stub and the gateway; everything ends with it.
struct gateway_under_test {
    explicit gateway_under_test(bool http = false) {
        intake = spawn_part<intake_actor, intake_stub_state>(system, intake_stub, record);
        gateway = http ? spawn_http_gateway(system, intake, {}) : spawn_tcp_gateway(system, intake, {});
        blocking->request(gateway, tcp_client::patience, listen_atom{}, "127.0.0.1:0")
            .receive([&](const std::string& bound) { address = bound; },
                     [](const caf::error&) { FAIL("cannot listen"); });
    }
    ~gateway_under_test() {
        end_now(gateway, caf::exit_reason::user_shutdown);
        end_now(intake, caf::exit_reason::user_shutdown);
        blocking->wait_for(gateway, intake);
    }

    template <class Condition>
    static bool soon(Condition condition) {
        const auto deadline = std::chrono::steady_clock::now() + tcp_client::patience;
        while (!condition() && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return condition();
    }

    struct config : caf::actor_system_config {
        config() {
            add_message_types<caf::id_block::moira>();
            set("scheduler.policy", caf::atom("sharing"));
            set("scheduler.max-threads", 2);
        }
    };

    config settings;
    caf::actor_system system{settings};
    caf::scoped_actor blocking{system};
    std::shared_ptr<intake_record> record = std::make_shared<intake_record>();
    intake_actor intake;
    gateway_actor gateway;
    std::string address;
};

} // namespace

TEST_CASE("a request passes through the gateway to intake and its news come back") {
    gateway_under_test t;
    tcp_client client(t.address);
    REQUIRE(client.send("{\"id\":\"a\",\"prompt\":\"now\"}\n"));
    const auto token = client.line();
    REQUIRE(token);
    CHECK(*token == nlohmann::json{{"id", "a"}, {"token", 7}, {"text", "word"}});
    const auto done = client.line();
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "length");
}

TEST_CASE("a cancel and a vanished client reach intake") {
    gateway_under_test t;
    tcp_client client(t.address);
    REQUIRE(client.send("{\"id\":\"a\",\"prompt\":\"later\"}\n{\"cancel\":\"a\"}\n"));
    const auto done = client.last_line_of("a");
    REQUIRE(done);
    CHECK((*done)["finish_reason"] == "cancelled");
    REQUIRE(client.send("{\"id\":\"b\",\"prompt\":\"later\"}\n"));
    REQUIRE(t.soon([&] { return t.record->submitted == 2; }));
    client.reset();
    CHECK(t.soon([&] { return t.record->cancelled == 2; }));
}

TEST_CASE("statistics come from the runtime, or an error in their place") {
    gateway_under_test t;
    tcp_client client(t.address);
    REQUIRE(client.send("{\"stats\":true}\n"));
    const auto answer = client.line();
    REQUIRE(answer);
    CHECK(answer->contains("stats"));
    t.record->answers_statistics = false;
    REQUIRE(client.send("{\"stats\":true}\n"));
    const auto failure = client.line();
    REQUIRE(failure);
    CHECK((*failure)["error"]["code"] == "internal");
}

TEST_CASE("listening where somebody listens already is an error") {
    gateway_under_test t;
    const auto second = spawn_tcp_gateway(t.system, t.intake, {});
    bool refused = false;
    t.blocking->request(second, tcp_client::patience, listen_atom{}, t.address)
        .receive([](const std::string&) {}, [&](const caf::error&) { refused = true; });
    CHECK(refused);
    end_now(second, caf::exit_reason::user_shutdown);
    t.blocking->wait_for(second);
}

TEST_CASE("a drain is answered when the last request has ended") {
    gateway_under_test t;
    auto client = std::make_unique<tcp_client>(t.address);
    REQUIRE(client->send("{\"id\":\"a\",\"prompt\":\"later\"}\n"));
    REQUIRE(t.soon([&] { return t.record->submitted == 1; }));
    auto draining = t.blocking->request(t.gateway, tcp_client::patience, drain_atom{});
    REQUIRE(client->send("{\"cancel\":\"a\"}\n"));
    CHECK(client->last_line_of("a"));
    client.reset();
    bool drained = false;
    draining.receive([&](bool answer) { drained = answer; }, [](const caf::error&) {});
    CHECK(drained);
}

TEST_CASE("the gateway's death closes its connections and cancels their requests") {
    for (const auto reason : {caf::exit_reason::user_shutdown, caf::exit_reason::kill}) {
        gateway_under_test t;
        tcp_client client(t.address);
        REQUIRE(client.send("{\"id\":\"a\",\"prompt\":\"later\"}\n"));
        REQUIRE(t.soon([&] { return t.record->submitted == 1; }));
        end_now(t.gateway, reason);
        CHECK(client.closed_by_peer());
        t.blocking->wait_for(t.gateway);
        if (reason == caf::exit_reason::user_shutdown)
            CHECK(t.soon([&] { return t.record->cancelled == 1; }));
    }
}

namespace {

std::optional<http_reply_read> post(tcp_client& client, const std::string& path, const std::string& body) {
    client.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                body);
    bool malformed = false;
    for (;;) {
        if (auto read = take_reply(client.unread(), malformed))
            return read;
        if (malformed || !client.receive())
            return std::nullopt;
    }
}

} // namespace

TEST_CASE("a request passes through the HTTP gateway and its client's leaving reaches intake") {
    gateway_under_test t(true);
    tcp_client client(t.address);
    const auto done = post(client, "/v1/completions", R"({"prompt":"now"})");
    REQUIRE(done);
    CHECK(done->json()["choices"][0]["text"] == "word");
    REQUIRE(client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"prompt\":\"\"}"));
    REQUIRE(t.soon([&] { return t.record->submitted == 2; }));
    client.reset();
    CHECK(t.soon([&] { return t.record->cancelled == 1; }));
}

TEST_CASE("an HTTP gateway without a tokenizer says so, and metrics fail when the runtime does not answer") {
    gateway_under_test t(true);
    t.record->answers_statistics = false;
    tcp_client client(t.address);
    const auto refused = post(client, "/tokenize", R"({"prompt":"a"})");
    REQUIRE(refused);
    CHECK(refused->code() == "unsupported");
    REQUIRE(client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
    bool malformed = false;
    std::optional<http_reply_read> metrics;
    while (!(metrics = take_reply(client.unread(), malformed)) && client.receive()) {
    }
    REQUIRE(metrics);
    CHECK(metrics->status == 503);
}
