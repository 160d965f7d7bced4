#include "tests/actors/http_conversation.hpp"

using namespace http_test;
using nlohmann::json;

TEST_CASE("a completion is answered in OpenAI's shape with moira beside usage") {
    conversation c;
    c.say(post(complete, R"({"model":"tiny","prompt":"hi","max_tokens":2,"seed":5,"stop":"x","odd":1})"));
    REQUIRE(c.submitted());
    const auto& input = *c.submitted()->input;
    CHECK(input.prompt == "hi");
    CHECK(input.max_tokens == 2);
    CHECK(input.seed == 5u);
    CHECK(input.stop == std::vector<std::string>{"x"});
    CHECK(!c.session.idle());
    CHECK(c.session.running() == std::vector<std::uint64_t>{c.submitted()->tag});
    c.end(finish_reason::length, "a b");
    const auto reply = c.reply();
    REQUIRE(reply);
    CHECK(reply->status == 200);
    CHECK(reply->field("content-type") == "application/json");
    CHECK(reply->field("date") == "Tue, 24 Nov 2026 06:00:00 GMT");
    const auto body = reply->json();
    CHECK(body["object"] == "text_completion");
    CHECK(body["model"] == "tiny");
    CHECK(body["choices"][0]["text"] == "a b");
    CHECK(body["choices"][0]["finish_reason"] == "length");
    CHECK(body["usage"]["total_tokens"] == 5);
    CHECK(body["usage"]["prompt_tokens_details"]["cached_tokens"] == 1);
    CHECK(body["moira"]["ignored"] == json{"odd"});
    CHECK(c.session.idle());
    CHECK(c.count<close_action>() == 0);
}

TEST_CASE("a chat completion is answered with a message") {
    conversation c;
    c.say(post(chat, R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
                        "max_completion_tokens":3,"n":1,"tools":[],"temperature":null,"logprobs":false})"));
    REQUIRE(c.submitted());
    REQUIRE(c.submitted()->input->messages);
    CHECK(c.submitted()->input->messages->at(0).content == "ab");
    CHECK(c.submitted()->input->max_tokens == 3);
    c.end(finish_reason::stop, "yes");
    const auto body = c.reply()->json();
    CHECK(body["object"] == "chat.completion");
    CHECK(body["choices"][0]["message"]["role"] == "assistant");
    CHECK(body["choices"][0]["message"]["content"] == "yes");
}

TEST_CASE("a stream sends its head with the first token, then events, usage and [DONE]") {
    conversation c;
    c.say(post(chat, R"({"messages":[{"role":"user","content":"a"}],"stream":true,
                        "stream_options":{"include_usage":true}})"));
    CHECK(c.bytes.empty());
    c.word("he");
    CHECK(c.bytes.starts_with("HTTP/1.1 200 "));
    c.word("");
    c.word("y");
    c.end(finish_reason::stop, "hey");
    const auto reply = c.reply();
    REQUIRE(reply);
    CHECK(reply->field("content-type") == "text/event-stream");
    const auto events = reply->events();
    REQUIRE(events.size() == 6); // role, he, y, finish, usage, [DONE]
    CHECK(events.back() == "[DONE]");
    CHECK(json::parse(events[0])["choices"][0]["delta"]["role"] == "assistant");
    CHECK(json::parse(events[1])["choices"][0]["delta"]["content"] == "he");
    CHECK(json::parse(events[1])["usage"].is_null());
    CHECK(json::parse(events[3])["choices"][0]["finish_reason"] == "stop");
    const auto usage = json::parse(events[4]);
    CHECK(usage["choices"].empty());
    CHECK(usage["usage"]["completion_tokens"] == 2);
    CHECK(usage.contains("moira"));
    CHECK(c.session.idle());
}

TEST_CASE("without include_usage the finishing chunk carries moira, and text held back to the end comes out") {
    conversation c;
    c.say(post(complete, R"({"prompt":"a","stream":true})"));
    output_event event;
    event.tag = c.submitted()->tag;
    event.tail_text = "tail";
    event.finished.emplace();
    event.finished->reason = finish_reason::stop;
    c.hear(event);
    const auto events = c.reply()->events();
    REQUIRE(events.size() == 3);
    CHECK(json::parse(events[0])["choices"][0]["text"] == "tail");
    CHECK(!json::parse(events[0]).contains("usage"));
    CHECK(json::parse(events[1]).contains("moira"));
}

TEST_CASE("a failure before the first token has its status, one after it is an event") {
    for (const bool stream : {false, true}) {
        conversation c;
        c.say(post(complete, stream ? R"({"prompt":"a","stream":true})" : hello));
        c.end(finish_reason::error, "", error{errc::queue_full, "full"});
        const auto reply = c.reply();
        REQUIRE(reply);
        CHECK(reply->status == 429);
        CHECK(reply->code() == "queue_full");
        CHECK(reply->field("retry-after") == "1");
    }
    conversation c;
    c.say(post(complete, R"({"prompt":"a","stream":true})"));
    c.word("x");
    c.end(finish_reason::error, "x", error{errc::io_error, "disk"});
    const auto events = c.reply()->events();
    REQUIRE(events.size() == 3);
    CHECK(json::parse(events[1])["error"]["code"] == "io_error");
    CHECK(events[2] == "[DONE]");
}

TEST_CASE("known fields that cannot be served are named, harmless values of them are not") {
    const std::pair<const char*, const char*> refused[]{{"n", "2"},
                                                        {"logprobs", "5"},
                                                        {"logprobs", "0"},
                                                        {"echo", "true"},
                                                        {"suffix", "\"x\""},
                                                        {"logit_bias", "{\"5\":1}"},
                                                        {"best_of", "3"},
                                                        {"presence_penalty", "0.5"},
                                                        {"tools", "[{}]"},
                                                        {"response_format", "{\"type\":\"json_object\"}"},
                                                        {"tool_choice", "\"required\""}};
    for (const auto& [name, value] : refused) {
        conversation c;
        const auto reply = c.ask(post(complete, R"({"prompt":"a",")" + std::string(name) + "\":" + value + "}"));
        CHECK_MESSAGE(reply.status == 400, name);
        CHECK(reply.code() == "unsupported");
        CHECK(reply.json()["error"]["param"] == name);
        CHECK(reply.json()["error"]["type"] == "invalid_request_error");
    }
    conversation c;
    c.say(post(complete, R"({"prompt":"a","n":1,"best_of":1,"echo":false,"suffix":null,"logit_bias":{},
                            "presence_penalty":0,"frequency_penalty":0.0,"response_format":{"type":"text"},
                            "tool_choice":"auto","logprobs":null,"user":"u"})"));
    CHECK(c.submitted());
}

TEST_CASE("wrong values are refused with the field") {
    const std::pair<const char*, const char*> wrong[]{
        {R"({"prompt":"a","temperature":-1})", "temperature"},
        {R"({"prompt":"a","max_tokens":0})", "max_tokens"},
        {R"({"prompt":"a","stream":1})", "stream"},
        {R"({"messages":[]})", "messages"},
        {R"({"prompt":["a","b"]})", "prompt"},
        {R"({})", "prompt"},
        {R"({"prompt":"a","stream_options":{}})", "stream_options"},
        {R"({"prompt":"a","max_tokens":1,"max_completion_tokens":2})", "max_completion_tokens"},
        {R"({"prompt":[1,-2]})", "prompt[1]"}};
    for (const auto& [body, name] : wrong) {
        conversation c;
        const auto reply = c.ask(post(complete, body));
        CHECK_MESSAGE(reply.status == 400, body);
        CHECK_MESSAGE(reply.json()["error"]["param"] == name, body);
        CHECK(c.session.idle());
    }
}

TEST_CASE("a prompt may be ids, and a list of one") {
    for (const auto* body : {R"({"prompt":[1,2]})", R"({"prompt":[[1,2]]})"}) {
        conversation c;
        c.say(post(complete, body));
        REQUIRE(c.submitted());
        CHECK(c.submitted()->input->ids == std::vector<token_id>{1, 2});
    }
    conversation c;
    c.say(post(complete, R"({"prompt":["one"]})"));
    REQUIRE(c.submitted());
    CHECK(c.submitted()->input->prompt == "one");
}

TEST_CASE("another model than the served one is not found") {
    conversation c;
    const auto reply = c.ask(post(complete, R"({"model":"gpt","prompt":"a"})"));
    CHECK(reply.status == 404);
    CHECK(reply.code() == "not_found");
}
