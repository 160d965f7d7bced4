#include "actors/http_reply_reader.hpp"
#include "actors/load_protocol.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace moira;

namespace {

using outcome = reply_news::outcome;

load_protocol_options http_options(const std::string& key = "") {
    return {{true, "example", "8080"}, key, "demo"};
}

/// Feeds `bytes` in pieces of `piece` and adds the news up; stops at the end of the request.
reply_news feed(load_protocol& protocol, std::string_view bytes, std::size_t piece) {
    reply_news all;
    while (!bytes.empty() && all.state == outcome::open) {
        auto news = protocol.receive(bytes.substr(0, piece));
        bytes.remove_prefix(std::min(piece, bytes.size()));
        news.tokens += all.tokens;
        all = std::move(news);
    }
    return all;
}

std::string chunked(std::string_view body, std::size_t piece) {
    std::string text;
    while (!body.empty()) {
        const auto part = body.substr(0, piece);
        char size[20];
        std::snprintf(size, sizeof size, "%zX", part.size());
        text += std::string(size) + ";x=1\r\n" + std::string(part) + "\r\n";
        body.remove_prefix(part.size());
    }
    return text + "0\r\n\r\n";
}

const std::string events = "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n"
                           ": a comment\r\n"
                           "data:{\"choices\":[{\"text\":\"b\"}]}\r\n\r\n"
                           "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n"
                           "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\n"
                           "data: [DONE]\n\n";

const std::string event_head =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

reply_news asked_http(std::string_view answer, std::size_t piece = 1'000'000) {
    const auto protocol = make_http_load_protocol(http_options());
    protocol->greet();
    protocol->ask({});
    auto news = feed(*protocol, answer, piece);
    return news.state == outcome::open ? protocol->closed() : news;
}

} // namespace

TEST_CASE("targets name a protocol, a host and a port") {
    const auto lines = parse_load_target("tcp://127.0.0.1:7420");
    REQUIRE(lines);
    CHECK_FALSE(lines->http);
    CHECK(lines->host == "127.0.0.1");
    CHECK(lines->port == "7420");
    const auto six = parse_load_target("http://[::1]:8080/");
    REQUIRE(six);
    CHECK(six->http);
    CHECK(six->host == "::1");
    CHECK(six->port == "8080");
    REQUIRE(parse_load_target("http://localhost"));
    CHECK(parse_load_target("http://localhost")->port == "80");
    for (const char* wrong :
         {"", "127.0.0.1:7420", "https://x:1", "tcp://x", "tcp://:1", "tcp://x:0", "tcp://x:70000", "tcp://x:1a",
          "http://a:b:1", "http://x:1/v1", "http://a@x:1", "http://x\r\n:1", "tcp://[]:1"}) {
        CAPTURE(wrong);
        const auto target = parse_load_target(wrong);
        REQUIRE_FALSE(target);
        CHECK(target.error().code == errc::invalid_argument);
    }
}

TEST_CASE("lines: tokens are counted up to the done line, whatever the pieces") {
    for (const std::size_t piece : {1u, 7u, 100'000u}) {
        const auto protocol = make_line_load_protocol("");
        CHECK(protocol->greet().empty());
        load_request request;
        request.ids = {1, 2};
        const auto sent = nlohmann::json::parse(protocol->ask(request));
        CHECK(sent["ids"].size() == 2);
        CHECK(sent["ignore_eos"] == true);
        CHECK_FALSE(sent.contains("prompt"));
        const auto id = sent["id"].get<std::string>();
        const auto news =
            feed(*protocol,
                 "{\"id\":\"other\",\"done\":true}\n{\"id\":\"" + id + "\",\"token\":5,\"text\":\"\"}\n{\"id\":\"" +
                     id + "\",\"done\":true,\"finish_reason\":\"length\",\"usage\":{\"completion_tokens\":2}}\n",
                 piece);
        CHECK(news.state == outcome::completed);
        CHECK(news.tokens == 1);
        CHECK(news.completion_tokens == 2);
        CHECK(news.reusable);
    }
}

TEST_CASE("lines: errors, cancels and closed connections end a request as what they are") {
    const auto answer = [](const std::string& line) {
        const auto protocol = make_line_load_protocol("k");
        CHECK(nlohmann::json::parse(protocol->greet())["auth"] == "k");
        protocol->ask({});
        return protocol->receive(line + "\n");
    };
    auto news = answer(R"({"id":"r1","error":{"code":"queue_full","message":"m"}})");
    CHECK(news.state == outcome::failed);
    CHECK(news.reason == "queue_full");
    CHECK(news.reusable);
    news = answer(R"({"id":null,"error":{"code":"unauthorized"}})");
    CHECK(news.reason == "unauthorized");
    CHECK_FALSE(news.reusable);
    CHECK(answer(R"({"id":"r1","done":true,"finish_reason":"cancelled"})").state == outcome::cancelled);
    news = answer("no json");
    CHECK(news.state == outcome::failed);
    CHECK(news.reason == "invalid_answer");
    CHECK(answer(R"({"id":"r1","error":{"code":"\u001b[31m"}})").reason == "error");

    const auto protocol = make_line_load_protocol("");
    CHECK(protocol->closed().state == outcome::open); // nothing was asked
    protocol->ask({});
    CHECK(protocol->closed().reason == "connection_closed");
}

TEST_CASE("both protocols ask the server about itself") {
    const auto lines = make_line_load_protocol("");
    CHECK(lines->ask_facts() == "{\"stats\":true}\n");
    auto news = lines->receive("{\"stats\":{\"model\":\"demo\",\"vocabulary\":4096,\"context_max\":512}}\n");
    REQUIRE(news.facts);
    CHECK(news.facts->model == "demo");
    CHECK(news.facts->vocabulary == 4096);
    CHECK(news.facts->context_max == 512);

    const auto http = make_http_load_protocol(http_options("secret"));
    const auto question = http->ask_facts();
    CHECK(question.starts_with("GET /v1/models HTTP/1.1\r\nHost: example:8080\r\n"));
    CHECK(question.find("Authorization: Bearer secret\r\n") != std::string::npos);
    const std::string body = R"({"data":[{"id":"m1","max_model_len":2048},{"id":"m2"}]})";
    news = feed(*http, "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body, 3);
    REQUIRE(news.facts);
    CHECK(news.facts->model == "m1");
    CHECK(news.facts->context_max == 2048);
    CHECK_FALSE(news.facts->vocabulary);
    CHECK_FALSE(news.facts->statistics);
}

TEST_CASE("both protocols ask for counters: lines get them with the facts, HTTP from the metrics") {
    const auto lines = make_line_load_protocol("");
    CHECK(lines->ask_statistics() == "{\"stats\":true}\n");
    auto news = lines->receive("{\"stats\":{\"compute_s\":7}}\n");
    REQUIRE(news.facts);
    REQUIRE(news.facts->statistics);
    CHECK(news.facts->statistics->compute_s == 7);

    const auto http = make_http_load_protocol(http_options("secret"));
    const auto answered = [&http](const std::string& status, const std::string& body) {
        CHECK(http->ask_statistics().starts_with("GET /metrics HTTP/1.1\r\nHost: example:8080\r\n"));
        return feed(*http,
                    "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body, 3);
    };
    news = answered("200 OK", "# HELP\nmoira_compute_seconds 8\n");
    REQUIRE(news.facts);
    REQUIRE(news.facts->statistics);
    CHECK(news.facts->statistics->compute_s == 8);
    CHECK_FALSE(answered("200 OK", "other_seconds 8\n").facts->statistics);
    CHECK(answered("404 Not Found", "{}").state == outcome::failed);
}

TEST_CASE("HTTP: server-sent events count as tokens, whatever the pieces and chunks") {
    const auto protocol = make_http_load_protocol(http_options());
    load_request request;
    request.prompt = "hello";
    const auto sent = protocol->ask(request);
    const auto body = sent.substr(sent.find("\r\n\r\n") + 4);
    CHECK(sent.find("Content-Length: " + std::to_string(body.size()) + "\r\n") != std::string::npos);
    const auto fields = nlohmann::json::parse(body);
    CHECK(fields["model"] == "demo");
    CHECK(fields["prompt"] == "hello");
    CHECK(fields["stream_options"]["include_usage"] == true);

    for (const std::size_t chunk : {1u, 10u, 10'000u})
        for (const std::size_t piece : {1u, 5u, 100'000u}) {
            const auto news = asked_http(event_head + chunked(events, chunk), piece);
            CHECK(news.state == outcome::completed);
            CHECK(news.completion_tokens == 3);
            CHECK(news.reusable);
        }
    CHECK(asked_http(event_head + chunked(events, 10'000)).tokens == 2);
}

TEST_CASE("HTTP: answers end by length, by chunks or with the connection, and are kept apart from announcements") {
    const std::string body = R"({"choices":[{"text":"ab","finish_reason":"stop"}],"usage":{"completion_tokens":2}})";
    const auto sized = "HTTP/1.1 200 OK\r\ncontent-length:" + std::to_string(body.size()) + "\r\n\r\n" + body;
    auto news = asked_http("HTTP/1.1 100 Continue\r\n\r\n" + sized, 1);
    CHECK(news.state == outcome::completed);
    CHECK(news.tokens == 0);
    CHECK(news.completion_tokens == 2);
    CHECK(news.reusable);
    news = asked_http("HTTP/1.1 200 OK\r\n\r\n" + body);
    CHECK(news.state == outcome::completed);
    CHECK_FALSE(news.reusable);
    CHECK_FALSE(
        asked_http("HTTP/1.0 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body).reusable);
    CHECK_FALSE(asked_http("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
                           "\r\n\r\n" + body)
                    .reusable);
}

TEST_CASE("HTTP: failures carry the server's code, or the status") {
    const std::string error = R"({"error":{"message":"m","code":"queue_full"}})";
    auto news =
        asked_http("HTTP/1.1 429 Too Many\r\nContent-Length: " + std::to_string(error.size()) + "\r\n\r\n" + error);
    CHECK(news.state == outcome::failed);
    CHECK(news.reason == "queue_full");
    CHECK(news.reusable);
    CHECK(asked_http("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").reason == "http_502");
    CHECK(asked_http("HTTP/1.1 204 No Content\r\n\r\n").reason == "http_204");
    CHECK(asked_http("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").reason == "invalid_answer");
    CHECK(asked_http(event_head + chunked("data: {\"error\":{\"code\":\"io_error\"}}\n\ndata: [DONE]\n\n", 9)).reason ==
          "io_error");
    // A stream that ends without its last word was cut.
    CHECK(asked_http(event_head + chunked("data: {\"choices\":[{\"text\":\"a\"}]}\n\n", 9)).reason ==
          "connection_closed");
    CHECK(asked_http(event_head + "5\r\nda").reason == "connection_closed");
    CHECK(asked_http("").reason == "connection_closed");
    CHECK(asked_http(
              event_head +
              chunked("data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"cancelled\"}]}\n\ndata: [DONE]\n\n", 9))
              .state == outcome::cancelled);
}

TEST_CASE("HTTP: what is no answer is refused and not waited for") {
    for (const char* wrong : {"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/2 200\r\n\r\n",
                              "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                              "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                              "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"}) {
        CAPTURE(wrong);
        CHECK(asked_http(wrong, 1).reason == "invalid_answer");
    }
    CHECK(asked_http("HTTP/1.1 " + std::string(load_head_bytes_max, 'x'), 1'000).reason == "invalid_answer");
    const auto protocol = make_http_load_protocol(http_options());
    protocol->ask({});
    CHECK(protocol->receive("HTT").state == outcome::open);
    CHECK(protocol->receive("X").state == outcome::failed);
    CHECK(asked_http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(2'000, '0')).reason ==
          "invalid_answer");
}

TEST_CASE("an answer is followed by another on the same connection") {
    const auto protocol = make_http_load_protocol(http_options());
    for (int i = 0; i < 3; ++i) {
        protocol->ask({});
        const auto news = feed(*protocol, event_head + chunked(events, 20), 11);
        CHECK(news.state == outcome::completed);
        CHECK(protocol->closed().state == outcome::open);
    }
}
