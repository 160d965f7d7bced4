#include "actors/request_json.hpp"

#include "core/text/text_stream.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace moira;

namespace {

result<request_fields> read(std::string_view text, unknown_field_policy policy = unknown_field_policy::refuse) {
    auto object = parse_request_json(text);
    if (!object)
        return tl::unexpected<error>(object.error());
    return read_request(*object, policy);
}

errc code_of(std::string_view text) {
    const auto outcome = read(text);
    REQUIRE_MESSAGE(!outcome, text);
    return outcome.error().code;
}

bool names(std::string_view text, std::string_view field) {
    const auto outcome = read(text);
    REQUIRE_MESSAGE(!outcome, text);
    return outcome.error().message.find(field) != std::string::npos;
}

std::string with(std::string_view member) {
    return "{\"prompt\":\"x\"," + std::string(member) + "}";
}

} // namespace

TEST_CASE("a request with every field is read as it stands") {
    const auto outcome = read(R"({"prompt":"Hi","max_tokens":64,"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,
        "repetition_penalty":1.1,"seed":18446744073709551615,"stop":["a","bc"],"ignore_eos":true,"timeout_ms":1000,
        "stream":false})");
    REQUIRE(outcome);
    const auto& input = outcome->input;
    CHECK(input.prompt == "Hi");
    CHECK(!input.ids);
    CHECK(!input.messages);
    CHECK(input.max_tokens == 64);
    CHECK(input.temperature == 0.5);
    CHECK(input.top_p == 0.9);
    CHECK(input.top_k == 40);
    CHECK(input.min_p == 0.1);
    CHECK(input.repetition_penalty == 1.1);
    CHECK(input.seed == 18446744073709551615ull);
    CHECK(input.stop == std::vector<std::string>{"a", "bc"});
    CHECK(input.ignore_eos);
    CHECK(input.timeout_ms == 1000);
    CHECK(outcome->stream == false);
}

TEST_CASE("fields that are absent stay unset") {
    const auto outcome = read(R"({"ids":[0,2147483647]})");
    REQUIRE(outcome);
    CHECK(outcome->input.ids == std::vector<token_id>{0, 2147483647});
    CHECK(!outcome->input.temperature);
    CHECK(!outcome->input.seed);
    CHECK(!outcome->stream);
    CHECK(outcome->input.stop.empty());
}

TEST_CASE("messages keep their order and content") {
    const auto outcome = read(R"({"messages":[{"role":"system","content":"Be \u00e9"},{"content":"","role":"user"}]})");
    REQUIRE(outcome);
    REQUIRE(outcome->input.messages);
    REQUIRE(outcome->input.messages->size() == 2);
    CHECK(outcome->input.messages->at(0).content == "Be \xc3\xa9");
    CHECK(outcome->input.messages->at(1).role == "user");
}

TEST_CASE("a single stop string is a list of one") {
    const auto outcome = read(with(R"("stop":"END")"));
    REQUIRE(outcome);
    CHECK(outcome->input.stop == std::vector<std::string>{"END"});
}

TEST_CASE("a request has exactly one of prompt, ids and messages") {
    CHECK(code_of("{}") == errc::invalid_argument);
    CHECK(code_of(R"({"prompt":"x","ids":[1]})") == errc::invalid_argument);
    CHECK(code_of(R"({"prompt":"x","messages":[{"role":"user","content":"y"}]})") == errc::invalid_argument);
}

TEST_CASE("wrong types are refused by the field's name") {
    const char* members[] = {R"("max_tokens":"64")",
                             R"("max_tokens":64.0)",
                             R"("max_tokens":true)",
                             R"("max_tokens":null)",
                             R"("max_tokens":[])",
                             R"("temperature":"0")",
                             R"("temperature":{})",
                             R"("top_p":false)",
                             R"("top_k":1.5)",
                             R"("min_p":"x")",
                             R"("seed":1.0)",
                             R"("seed":"1")",
                             R"("stop":1)",
                             R"("stop":[1])",
                             R"("stop":{"a":"b"})",
                             R"("ignore_eos":1)",
                             R"("stream":"yes")",
                             R"("timeout_ms":0.5)",
                             R"("repetition_penalty":null)"};
    for (const auto* member : members) {
        CAPTURE(member);
        CHECK(code_of(with(member)) == errc::invalid_argument);
        const std::string_view text(member);
        CHECK(names(with(member), text.substr(1, text.find('"', 1) - 1)));
    }
    CHECK(code_of(R"({"prompt":1})") == errc::invalid_argument);
    CHECK(code_of(R"({"ids":"1 2"})") == errc::invalid_argument);
    CHECK(code_of(R"({"ids":[1.0]})") == errc::invalid_argument);
    CHECK(code_of(R"({"ids":[]})") == errc::invalid_argument);
    CHECK(code_of(R"({"messages":[]})") == errc::invalid_argument);
    CHECK(code_of(R"({"messages":["x"]})") == errc::invalid_argument);
    CHECK(code_of(R"({"messages":[{"role":"user"}]})") == errc::invalid_argument);
    CHECK(code_of(R"({"messages":[{"role":1,"content":"x"}]})") == errc::invalid_argument);
    CHECK(code_of(R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})") == errc::invalid_argument);
}

TEST_CASE("negative, huge and non-finite numbers are refused by the field's name") {
    const char* members[] = {R"("max_tokens":-1)",
                             R"("max_tokens":0)",
                             R"("max_tokens":2147483648)",
                             R"("max_tokens":18446744073709551615)",
                             R"("max_tokens":99999999999999999999999)",
                             R"("temperature":-0.1)",
                             R"("temperature":1e300)",
                             R"("temperature":1e999)",
                             R"("top_p":1.01)",
                             R"("min_p":-1)",
                             R"("top_k":-5)",
                             R"("seed":-1)",
                             R"("seed":18446744073709551616)",
                             R"("timeout_ms":-3)",
                             R"("timeout_ms":86400001)"};
    for (const auto* member : members) {
        CAPTURE(member);
        CHECK(code_of(with(member)) == errc::invalid_argument);
        const std::string_view text(member);
        CHECK(names(with(member), text.substr(1, text.find('"', 1) - 1)));
    }
    CHECK(code_of(with(R"("temperature":NaN)")) == errc::invalid_json);
    CHECK(code_of(with(R"("temperature":Infinity)")) == errc::invalid_json);
    CHECK(code_of(R"({"ids":[-1]})") == errc::token_out_of_range);
    CHECK(code_of(R"({"ids":[2147483648]})") == errc::token_out_of_range);
}

TEST_CASE("stop strings are bounded in number and length") {
    nlohmann::json request{{"prompt", "x"}, {"stop", std::vector<std::string>(stop_matcher::stops_max, "s")}};
    CHECK(read(request.dump()));
    request["stop"].push_back("one more");
    CHECK(code_of(request.dump()) == errc::invalid_argument);
    request["stop"] = std::string(stop_matcher::stop_bytes_max, 's');
    CHECK(read(request.dump()));
    request["stop"] = std::string(stop_matcher::stop_bytes_max + 1, 's');
    CHECK(code_of(request.dump()) == errc::invalid_argument);
    CHECK(code_of(with(R"("stop":"")")) == errc::invalid_argument);
}

TEST_CASE("unknown fields are refused or collected") {
    CHECK(code_of(with(R"("presence":1)")) == errc::unknown_field);
    CHECK(names(with(R"("presence":1)"), "presence"));
    CHECK(code_of(R"({"messages":[{"role":"user","content":"x","name":"y"}]})") == errc::unknown_field);
    const auto outcome = read(R"({"user":"u","messages":[{"role":"user","content":"x","name":"y"}],"best_of":2})",
                              unknown_field_policy::collect);
    REQUIRE(outcome);
    CHECK(outcome->ignored == std::vector<std::string>{"best_of", "messages.name", "user"});
}

TEST_CASE("text that is not one JSON object is refused") {
    for (const auto* text : {"", " ", "null", "1", "\"x\"", "[]", "{", "{}{}", "{} x", "{\"a\":}", "{\"a\":1,}",
                             "{'a':1}", "{\"a\":01}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\n\"}"}) {
        CAPTURE(text);
        const auto outcome = parse_request_json(text);
        REQUIRE(!outcome);
        CHECK(outcome.error().code == errc::invalid_json);
    }
    CHECK(parse_request_json(std::string_view("{}\0", 3)).error().code == errc::invalid_json);
}

TEST_CASE("text that is not UTF-8 is refused") {
    for (const auto* text : {"{\"prompt\":\"\xff\"}", "{\"prompt\":\"\xc0\xaf\"}", "{\"prompt\":\"\xed\xa0\x80\"}",
                             "{\"\xc3\":1}", "\xff"}) {
        const auto outcome = parse_request_json(text);
        REQUIRE(!outcome);
        CHECK(outcome.error().code == errc::invalid_utf8);
    }
}

TEST_CASE("a key twice in one object is refused, twice in two objects is not") {
    CHECK(parse_request_json(R"({"a":1,"a":2})").error().code == errc::invalid_json);
    CHECK(parse_request_json(R"({"a":1,"\u0061":2})").error().code == errc::invalid_json);
    CHECK(parse_request_json(R"({"b":[{"a":1},{"a":2}],"a":3})"));
}

TEST_CASE("nesting is bounded") {
    const auto nested = [](std::size_t depth) {
        return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
    };
    CHECK(parse_request_json(nested(request_depth_max)));
    CHECK(parse_request_json(nested(request_depth_max + 1)).error().code == errc::invalid_json);
    CHECK(parse_request_json("{\"a\":" + std::string(1'000'000, '[')).error().code == errc::invalid_json);
}

TEST_CASE("the id of a broken line is known when it stands before the break") {
    std::optional<std::string> id;
    CHECK(!parse_request_json(R"({"id":"a1","prompt":)", &id));
    CHECK(id == "a1");
    id.reset();
    CHECK(!parse_request_json(R"({"x":{"id":"inner"},)", &id));
    CHECK(!id);
}

TEST_CASE("the moira object says how a result was computed") {
    runtime_identity identity;
    identity.numerics_id = "n1";
    identity.plugins = {{"gemm", "cpu_avx512"}};
    expert_store_statistics experts;
    experts.budget_bytes = 1'000;
    experts.hits = 3;
    experts.demand_loads = 1;
    generation_result outcome;
    outcome.logits_hash = "0123456789abcdef";
    outcome.seed = 18446744073709551615ull;
    outcome.speculation = {8, 6, 4};
    const std::vector<std::string> ignored{"user"};
    const auto value = nlohmann::json::parse(json_text(moira_json(identity, experts, outcome, ignored)));
    CHECK(value["logits_hash"] == "0123456789abcdef");
    CHECK(value["numerics_id"] == "n1");
    CHECK(value["seed"] == 18446744073709551615ull);
    CHECK(value["lossy"] == nlohmann::json::array());
    CHECK(value["plugins"]["gemm"] == "cpu_avx512");
    CHECK(value["ignored"] == ignored);
    CHECK(value["speculation"]["mode"] == "off");
    for (const auto* key : {"mode", "drafted", "accepted", "acceptance", "mean_draft", "steps"})
        CHECK(value["speculation"].contains(key));
    CHECK(value["speculation"].size() == 6);
    CHECK(value["speculation"]["drafted"] == 8);
    CHECK(value["speculation"]["accepted"] == 6);
    CHECK(value["speculation"]["acceptance"] == 0.75);
    CHECK(value["speculation"]["mean_draft"] == 2.0);
    CHECK(value["speculation"]["steps"] == 4);
    const auto nothing = nlohmann::json::parse(json_text(speculation_json(identity, {})));
    CHECK(nothing["acceptance"].is_null());
    CHECK(nothing["mean_draft"] == 0.0);
    for (const auto* key :
         {"budget_bytes", "slots", "resident", "hit_rate", "demand_loads", "demand_bytes", "prefetch_loads",
          "prefetch_useful", "prefetch_wasted_bytes", "stall_s", "recall", "precision"})
        CHECK(value["experts"].contains(key));
    CHECK(value["experts"]["hit_rate"] == 0.75);
    CHECK(value["experts"]["recall"].is_null());
    CHECK(value["experts"]["pruning"].is_null());

    identity.lossy = {"prune.gate_mass=0.9"};
    experts.pruning.emplace();
    experts.pruning->all = {8, 2, 1};
    const auto pruned = nlohmann::json::parse(json_text(moira_json(identity, experts, outcome, ignored)));
    CHECK(pruned["lossy"] == std::vector<std::string>{"prune.gate_mass=0.9"});
    CHECK(pruned["experts"]["pruning"]["routings"] == 8);
    CHECK(pruned["experts"]["pruning"]["left_out"] == 2);
    CHECK(pruned["experts"]["pruning"]["replaced"] == 1);
    CHECK(pruned["experts"]["pruning"]["skipped_share"] == 0.25);
}

TEST_CASE("bytes that are not UTF-8 never stop a reply") {
    const auto text = json_text(error_json({errc::internal, "bad \xff byte"}));
    CHECK(nlohmann::json::parse(text)["message"] == "bad \xef\xbf\xbd byte");
}
