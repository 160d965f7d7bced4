#include "actors/line_protocol.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace moira;
using nlohmann::json;

namespace {

/// A session with what it gave back, decoded.
struct conversation {
    explicit conversation(const line_limits& limits = {}, std::vector<std::string> with_keys = {})
        : site{std::move(with_keys), {}}, session(limits, site, tags) {}

    void say(std::string_view bytes) {
        session.receive(bytes);
        session_output output;
        more = session.process(output);
        take(output);
    }

    void hear(const output_event& event) {
        session_output output;
        session.deliver(event, {}, output);
        take(output);
    }

    void take(session_output& output) {
        std::string_view rest = output.bytes;
        while (!rest.empty()) {
            const auto end = rest.find('\n');
            REQUIRE(end != std::string_view::npos);
            lines.push_back(json::parse(rest.substr(0, end)));
            rest.remove_prefix(end + 1);
        }
        for (auto& action : output.actions)
            actions.push_back(std::move(action));
    }

    json last() const { return lines.empty() ? json() : lines.back(); }
    std::string code() const { return last().is_null() ? "" : last()["error"]["code"].get<std::string>(); }

    template <class Action>
    std::size_t count() const {
        std::size_t found = 0;
        for (const auto& action : actions)
            found += std::holds_alternative<Action>(action) ? 1 : 0;
        return found;
    }

    std::uint64_t tag() const {
        std::uint64_t found = 0;
        for (const auto& action : actions)
            if (const auto* submit = std::get_if<submit_action>(&action))
                found = submit->tag;
        return found;
    }

    session_site site;
    tag_counter tags;
    line_session session;
    std::vector<json> lines;
    std::vector<session_action> actions;
    bool more = false;
};

generation_result result_of(finish_reason reason, std::string text) {
    generation_result outcome;
    outcome.reason = reason;
    outcome.text = std::move(text);
    outcome.token_ids = {5, 6};
    outcome.prompt_tokens = 3;
    outcome.completion_tokens = 2;
    outcome.cached_tokens = 1;
    outcome.logits_hash = "00000000000000ff";
    return outcome;
}

generation_result failure_of(errc code) {
    generation_result outcome;
    outcome.failure = error{code, "why"};
    return outcome;
}

} // namespace

TEST_CASE("a request is submitted and its tokens come back as lines") {
    conversation c;
    c.say("{\"id\":\"a1\",\"prompt\":\"Hi\",\"max_tokens\":2}\n");
    REQUIRE(c.count<submit_action>() == 1);
    CHECK(std::get<submit_action>(c.actions[0]).input->prompt == "Hi");
    CHECK(c.lines.empty());
    c.hear({c.tag(), {{5, "he"}}, "", {}});
    CHECK(c.last() == json{{"id", "a1"}, {"token", 5}, {"text", "he"}});
    c.hear({c.tag(), {{6, ""}}, "y", result_of(finish_reason::length, "hey")});
    REQUIRE(c.lines.size() == 3);
    CHECK(c.lines[1] == json{{"id", "a1"}, {"token", 6}, {"text", "y"}});
    const auto& done = c.lines[2];
    CHECK(done["id"] == "a1");
    CHECK(done["done"] == true);
    CHECK(done["finish_reason"] == "length");
    CHECK(done["text"] == "hey");
    CHECK(done["token_ids"] == json{5, 6});
    CHECK(done["usage"] == json{{"prompt_tokens", 3}, {"completion_tokens", 2}, {"cached_tokens", 1}});
    CHECK(done["moira"]["logits_hash"] == "00000000000000ff");
    CHECK(!done.contains("error"));
    CHECK(c.session.idle());
}

TEST_CASE("text that the end releases without a token is not lost") {
    conversation c;
    c.say("{\"id\":\"a\",\"prompt\":\"x\"}\n");
    c.hear({c.tag(), {}, "tail", result_of(finish_reason::cancelled, "tail")});
    REQUIRE(c.lines.size() == 2);
    CHECK(c.lines[0]["text"] == "tail");
    CHECK(c.lines[0]["token"].is_null());
    CHECK(c.lines[1]["finish_reason"] == "cancelled");
}

TEST_CASE("without streaming only the last line is sent") {
    conversation c;
    c.say("{\"id\":\"a\",\"prompt\":\"x\",\"stream\":false}\n");
    c.hear({c.tag(), {{5, "he"}}, "", {}});
    CHECK(c.lines.empty());
    c.hear({c.tag(), {{6, "y"}}, "", result_of(finish_reason::stop, "hey")});
    REQUIRE(c.lines.size() == 1);
    CHECK(c.lines[0]["done"] == true);
    CHECK(c.lines[0]["text"] == "hey");
}

TEST_CASE("lines are found however the bytes are cut") {
    conversation c;
    const std::string_view text = "{\"id\":\"a\",\"prompt\":\"x\"}\r\n{\"ping\":7}\n";
    for (const char byte : text)
        c.say({&byte, 1});
    CHECK(c.count<submit_action>() == 1);
    CHECK(c.last() == json{{"pong", 7}});
    CHECK(!c.session.partial());
    c.say("{");
    CHECK(c.session.partial());
}

TEST_CASE("bad lines get an error with the id when it could be read, and the connection lives on") {
    struct row {
        std::string line;
        const char* code;
        json id;
    };
    const row rows[] = {
        {"not json", "invalid_json", nullptr},
        {"", "invalid_json", nullptr},
        {"[1,2]", "invalid_json", nullptr},
        {R"({"id":"b","prompt":)", "invalid_json", "b"},
        {R"({"id":"b","prompt":"x","prompt":"y"})", "invalid_json", "b"},
        {"{\"id\":\"b\",\"prompt\":\"\xff\"}", "invalid_utf8", "b"},
        {R"({"prompt":"x"})", "invalid_argument", nullptr},
        {R"({"id":7,"prompt":"x"})", "invalid_argument", nullptr},
        {R"({"id":"","prompt":"x"})", "invalid_argument", nullptr},
        {R"({"id":"b"})", "invalid_argument", "b"},
        {R"({"id":"b","prompt":"x","temperature":NaN})", "invalid_json", "b"},
        {R"({"id":"b","prompt":"x","max_tokens":-1})", "invalid_argument", "b"},
        {R"({"id":"b","prompt":"x","colour":"red"})", "unknown_field", "b"},
        {R"({"id":"b","ids":[-1]})", "token_out_of_range", "b"},
        {R"({"cancel":"nobody"})", "not_found", "nobody"},
        {R"({"cancel":1})", "invalid_argument", nullptr},
        {R"({"cancel":"a","id":"b"})", "unknown_field", "b"},
        {R"({"stats":1})", "invalid_argument", nullptr},
        {R"({"stats":true,"x":1})", "unknown_field", nullptr},
        {R"({"ping":"x"})", "invalid_argument", nullptr},
        {"{\"id\":\"" + std::string(257, 'i') + "\",\"prompt\":\"x\"}", "invalid_argument", nullptr},
    };
    conversation c;
    std::size_t answers = 0;
    for (const auto& each : rows) {
        CAPTURE(each.line);
        c.say(each.line + "\n");
        REQUIRE(c.lines.size() == ++answers);
        CHECK(c.last()["error"]["code"] == each.code);
        CHECK(c.last()["id"] == each.id);
        CHECK(!c.last()["error"]["message"].get<std::string>().empty());
    }
    CHECK(c.actions.empty());
    c.say("{\"ping\":1}\n");
    CHECK(c.last() == json{{"pong", 1}});
}

TEST_CASE("a line over the limit is told and closes") {
    line_limits limits;
    limits.line_bytes_max = 32;
    conversation whole(limits);
    whole.say("{\"ping\":1}\n" + std::string(33, 'x') + "\n{\"ping\":2}\n");
    REQUIRE(whole.lines.size() == 2);
    CHECK(whole.code() == "line_too_long");
    CHECK(whole.count<close_action>() == 1);
    whole.say("{\"ping\":3}\n");
    CHECK(whole.lines.size() == 2);

    conversation unfinished(limits);
    unfinished.say(std::string(32, 'x'));
    CHECK(unfinished.lines.empty());
    unfinished.say("x");
    CHECK(unfinished.code() == "line_too_long");

    conversation exact(limits);
    exact.say(std::string(21, ' ') + "{\"ping\":1}\n");
    CHECK(exact.last() == json{{"pong", 1}});
}

TEST_CASE("an id that is still running is refused and free again after its last line") {
    conversation c;
    c.say("{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"a\",\"prompt\":\"y\"}\n");
    CHECK(c.code() == "duplicate_id");
    CHECK(c.last()["id"] == "a");
    CHECK(c.count<submit_action>() == 1);
    c.hear({c.tag(), {}, "", result_of(finish_reason::stop, "")});
    c.say("{\"id\":\"a\",\"prompt\":\"y\"}\n");
    CHECK(c.count<submit_action>() == 2);
}

TEST_CASE("a connection runs only so many requests at once") {
    line_limits limits;
    limits.requests_max = 2;
    conversation c(limits);
    c.say("{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"b\",\"prompt\":\"x\"}\n{\"id\":\"c\",\"prompt\":\"x\"}\n");
    CHECK(c.count<submit_action>() == 2);
    CHECK(c.code() == "queue_full");
    CHECK(c.last()["id"] == "c");
    c.hear({c.tag(), {}, "", result_of(finish_reason::stop, "")});
    c.say("{\"id\":\"c\",\"prompt\":\"x\"}\n");
    CHECK(c.count<submit_action>() == 3);
}

TEST_CASE("a cancelled id keeps running until its last line") {
    conversation c;
    c.say("{\"id\":\"a\",\"prompt\":\"x\"}\n{\"cancel\":\"a\"}\n{\"cancel\":\"a\"}\n");
    CHECK(c.count<cancel_action>() == 1);
    CHECK(std::get<cancel_action>(c.actions.back()).tag == c.tag());
    CHECK(c.lines.empty());
    CHECK(c.session.running().size() == 1);
    generation_result outcome;
    outcome.reason = finish_reason::cancelled;
    c.hear({c.tag(), {}, "", outcome});
    CHECK(c.last()["done"] == true);
    CHECK(c.last()["finish_reason"] == "cancelled");
    CHECK(c.session.idle());
}

TEST_CASE("a refused request gets an error line, a failed one a last line with the error") {
    conversation refused;
    refused.say("{\"id\":\"a\",\"prompt\":\"x\"}\n");
    refused.hear({refused.tag(), {}, "", failure_of(errc::prompt_too_long)});
    CHECK(refused.code() == "prompt_too_long");
    CHECK(refused.last()["id"] == "a");
    CHECK(!refused.last().contains("done"));

    conversation failed;
    failed.say("{\"id\":\"a\",\"prompt\":\"x\"}\n");
    auto outcome = failure_of(errc::io_error);
    outcome.prompt_tokens = 4;
    failed.hear({failed.tag(), {}, "", outcome});
    CHECK(failed.last()["done"] == true);
    CHECK(failed.last()["finish_reason"] == "error");
    CHECK(failed.code() == "io_error");
}

TEST_CASE("with keys nothing but a known key is taken first") {
    const std::vector<std::string> keys{"alpha", "beta"};
    const auto answer = [&](std::string_view bytes) {
        conversation c({}, keys);
        c.say(bytes);
        CHECK(c.count<close_action>() == 1);
        CHECK(c.count<submit_action>() == 0);
        return c.code();
    };
    CHECK(answer("{\"ping\":1}\n") == "unauthorized");
    CHECK(answer("{\"id\":\"a\",\"prompt\":\"x\"}\n") == "unauthorized");
    CHECK(answer("garbage\n") == "unauthorized");
    CHECK(answer("{\"auth\":\"alph\"}\n") == "unauthorized");
    CHECK(answer("{\"auth\":\"alphaalpha\"}\n") == "unauthorized");
    CHECK(answer("{\"auth\":\"\"}\n") == "unauthorized");
    CHECK(answer("{\"auth\":1}\n") == "unauthorized");
    CHECK(answer("{\"auth\":\"gamma\"}\n{\"id\":\"a\",\"prompt\":\"x\"}\n") == "unauthorized");
    CHECK(answer(std::string(5'000, ' ')) == "line_too_long");

    conversation c({}, keys);
    CHECK(!c.session.authenticated());
    c.say("{\"auth\":\"beta\"}\n{\"ping\":1}\n");
    CHECK(c.session.authenticated());
    CHECK(c.last() == json{{"pong", 1}});
    CHECK(c.actions.empty());
}

TEST_CASE("a server without keys takes a client that carries one") {
    conversation c;
    c.say("{\"auth\":\"whatever\"}\n{\"ping\":1}\n");
    CHECK(c.lines.size() == 1);
    CHECK(c.last() == json{{"pong", 1}});
}

TEST_CASE("statistics are asked for and answered once per line, within a bound") {
    line_limits limits;
    limits.statistics_waiting_max = 2;
    conversation c(limits);
    c.say("{\"stats\":true}\n{\"stats\":true}\n{\"stats\":true}\n");
    CHECK(c.count<statistics_action>() == 2);
    CHECK(c.code() == "queue_full");
    CHECK(!c.session.idle());
    runtime_statistics statistics;
    statistics.batch.running = 3;
    session_output output;
    c.session.deliver_statistics(std::make_shared<const runtime_statistics>(statistics), {}, output);
    c.take(output);
    CHECK(c.lines.size() == 3);
    CHECK(c.last()["stats"]["running"] == 3);
    CHECK(c.session.idle());
    c.say("{\"stats\":true}\n");
    session_output late;
    c.session.deliver_statistics(fail(errc::internal, "no answer"), {}, late);
    c.take(late);
    CHECK(c.code() == "internal");
}

TEST_CASE("while draining new requests are refused and old ones go on") {
    conversation c;
    c.say("{\"id\":\"a\",\"prompt\":\"x\"}\n");
    c.session.drain();
    c.say("{\"id\":\"b\",\"prompt\":\"x\"}\n");
    CHECK(c.code() == "draining");
    CHECK(c.last()["id"] == "b");
    c.hear({c.tag(), {{5, "t"}}, "", {}});
    CHECK(c.last()["text"] == "t");
    c.say("{\"ping\":1}\n{\"cancel\":\"a\"}\n");
    CHECK(c.count<cancel_action>() == 1);
}

TEST_CASE("while loading requests are refused, and the same connection is served afterwards") {
    line_limits limits;
    limits.faults_allowed = true;
    conversation c(limits, {"k"});
    c.site.loading = true;
    c.say("{\"auth\":\"k\"}\n{\"ping\":1}\n");
    CHECK(c.last()["pong"] == 1);
    for (const auto* const line : {R"({"id":"a","prompt":"x"})", R"({"stats":true})", R"({"fault":{"kill":"batcher"}})"}) {
        c.say(std::string(line) + "\n");
        CHECK(c.code() == "loading");
    }
    CHECK(c.actions.empty());
    c.site.loading = false;
    c.say("{\"id\":\"a\",\"prompt\":\"x\"}\n");
    CHECK(c.count<submit_action>() == 1);
}

TEST_CASE("lines wait while their answers have not been taken") {
    line_limits limits;
    limits.output_bytes_pause = 100;
    conversation c(limits);
    std::string pings;
    for (int i = 0; i < 100; ++i)
        pings += "{\"ping\":" + std::to_string(i) + "}\n";
    c.say(pings);
    CHECK(c.more);
    CHECK(c.lines.size() < 20);
    for (int rounds = 0; c.more && rounds < 100; ++rounds)
        c.say("");
    REQUIRE(c.lines.size() == 100);
    for (int i = 0; i < 100; ++i)
        CHECK(c.lines[static_cast<std::size_t>(i)]["pong"] == i);
}

TEST_CASE("news of unknown requests are dropped") {
    conversation c;
    c.hear({99, {{1, "x"}}, "", result_of(finish_reason::stop, "x")});
    CHECK(c.lines.empty());
}

TEST_CASE("text with any bytes keeps a line a line") {
    conversation c;
    c.say("{\"id\":\"a\\n\\\"\",\"prompt\":\"x\"}\n");
    c.hear({c.tag(), {{5, "line\nbreak \"quoted\" \x01 \xff"}}, "", {}});
    REQUIRE(c.lines.size() == 1);
    CHECK(c.last()["id"] == "a\n\"");
    CHECK(c.last()["text"] == "line\nbreak \"quoted\" \x01 \xef\xbf\xbd");
}
