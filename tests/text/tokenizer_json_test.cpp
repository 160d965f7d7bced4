#include "core/text/byte_level.hpp"
#include "core/text/tokenizer.hpp"

#include <doctest/doctest.h>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

namespace {

using moira::errc;
using nlohmann::json;
using ids = std::vector<moira::token_id>;

/// A small tokenizer: the 256 bytes, "ab" = 256, "abc" = 257, <s> = 258.
json small() {
    json vocab;
    for (int byte = 0; byte < 256; ++byte)
        vocab[std::string(moira::byte_level_character(static_cast<unsigned char>(byte)))] = byte;
    vocab["ab"] = 256;
    vocab["abc"] = 257;
    json file;
    file["model"] = {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "ab c"}}};
    file["added_tokens"] = {{{"id", 258}, {"content", "<s>"}, {"special", true}, {"normalized", false}}};
    file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
    file["decoder"] = {{"type", "ByteLevel"}};
    return file;
}

errc error_of(const json& file) {
    const auto parsed = moira::tokenizer::parse(file.dump(), "test");
    REQUIRE_FALSE(parsed.has_value());
    return parsed.error().code;
}

errc error_after(const std::function<void(json&)>& change) {
    json file = small();
    change(file);
    return error_of(file);
}

ids encode_after(const std::function<void(json&)>& change, std::string_view text) {
    json file = small();
    change(file);
    return moira::tokenizer::parse(file.dump(), "test").value().encode(text).value();
}

json template_of(const char* before, const char* after) {
    return {
        {"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", before}}}}, {{"Sequence", {{"id", "A"}}}}, {{"SpecialToken", {{"id", after}}}}}},
        {"special_tokens", {{"<s>", {{"ids", {258}}}}, {"two", {{"ids", {1, 2}}}}}}};
}

} // namespace

TEST_CASE("merges are read as strings and as pairs") {
    CHECK(encode_after([](json&) {}, "abc b") == ids{257, ' ', 'b'});
    CHECK(encode_after([](json& f) { f["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "c"]])"); }, "abc") ==
          ids{257});
}

TEST_CASE("with ignore_merges a piece that is a token is not taken apart") {
    const auto without_merges = [](json& f) { f["model"]["merges"] = json::array(); };
    CHECK(encode_after(without_merges, "abc") == ids{'a', 'b', 'c'});
    CHECK(encode_after(
              [&](json& f) {
                  without_merges(f);
                  f["model"]["ignore_merges"] = true;
              },
              "abc") == ids{257});
}

TEST_CASE("templates add tokens on both sides, in a sequence the later one outside") {
    CHECK(encode_after([](json& f) { f["post_processor"] = template_of("<s>", "two"); }, "a") == ids{258, 'a', 1, 2});
    const auto both = [](json& f) {
        f["post_processor"] = {
            {"type", "Sequence"},
            {"processors", {{{"type", "ByteLevel"}}, template_of("<s>", "<s>"), template_of("two", "two")}}};
    };
    CHECK(encode_after(both, "a") == ids{1, 2, 258, 'a', 258, 1, 2});
}

TEST_CASE("digits are cut one by one or as runs") {
    const auto digits = [](bool individual) {
        return [individual](json& f) {
            f["model"]["vocab"]["12"] = 300;
            f["model"]["merges"].push_back("1 2");
            f["pre_tokenizer"] = {{"type", "Sequence"},
                                  {"pretokenizers",
                                   {{{"type", "Digits"}, {"individual_digits", individual}},
                                    {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
        };
    };
    CHECK(encode_after(digits(true), "a12") == ids{'a', '1', '2'});
    CHECK(encode_after(digits(false), "a12") == ids{'a', 300});
}

TEST_CASE("an id with gaps below it costs nothing") {
    json file = small();
    file["model"]["vocab"]["far"] = (1 << 24) - 1;
    const auto parsed = moira::tokenizer::parse(file.dump(), "test");
    REQUIRE(parsed.has_value());
    CHECK(parsed->vocabulary_size() == 1u << 24);
    CHECK(parsed->token_bytes((1 << 24) - 1) == "far");
    CHECK(parsed->token_bytes((1 << 24) - 2).empty());
}

TEST_CASE("contradictions in the vocabulary are corrupt") {
    CHECK(error_after([](json& f) { f["model"]["vocab"]["x y"] = 5; }) == errc::corrupt_file); // twice
    CHECK(error_after([](json& f) { f["model"]["vocab"]["x y"] = -1; }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["vocab"]["x y"] = 1 << 24; }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["vocab"]["x y"] = UINT64_MAX; }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["vocab"]["x y"] = 1.5; }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["vocab"] = json::array(); }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["merges"].push_back("q z"); }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["merges"].push_back("a"); }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["merges"].push_back("a b c"); }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["merges"].push_back({"a", 1}); }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["model"]["merges"].push_back(7); }) == errc::corrupt_file);
}

TEST_CASE("contradictions in the added tokens are corrupt") {
    CHECK(error_after([](json& f) { f["added_tokens"][0]["id"] = 3; }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["added_tokens"][0]["content"] = "ab"; }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["added_tokens"][0].erase("content"); }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["added_tokens"][0]["lstrip"] = "yes"; }) == errc::corrupt_file);
    CHECK(error_after([](json& f) { f["added_tokens"][0]["content"] = std::string(5'000, 'a'); }) ==
          errc::corrupt_file);
    CHECK(error_after([](json& f) { f["added_tokens"] = 3; }) == errc::corrupt_file);
}

TEST_CASE("components that change the result and are not known are named as unsupported") {
    CHECK(error_after([](json& f) { f["normalizer"] = {{"type", "Lowercase"}}; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["model"]["type"] = "Unigram"; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["model"]["dropout"] = 0.1; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["model"]["byte_fallback"] = true; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["pre_tokenizer"] = nullptr; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["pre_tokenizer"] = {{"type", "Metaspace"}}; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["decoder"] = {{"type", "WordPiece"}}; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["decoder"] = nullptr; }) == errc::unsupported);
    CHECK(error_after([](json& f) { f["post_processor"] = {{"type", "BertProcessing"}}; }) == errc::unsupported);
}

TEST_CASE("templates that name tokens which are not there are corrupt") {
    CHECK(error_after([](json& f) { f["post_processor"] = template_of("<s>", "none"); }) == errc::corrupt_file);
    CHECK(error_after([](json& f) {
              f["post_processor"] = template_of("<s>", "two");
              f["post_processor"]["special_tokens"]["two"]["ids"] = {999};
          }) == errc::corrupt_file);
    CHECK(error_after([](json& f) {
              f["post_processor"] = template_of("<s>", "two");
              f["post_processor"]["special_tokens"]["two"]["ids"] = std::vector<int>(1'000, 1);
          }) == errc::corrupt_file);
}

TEST_CASE("text that is not the JSON of a tokenizer is corrupt") {
    for (const std::string& text :
         {std::string(), std::string("{"), std::string("[]"), std::string("7"), std::string("{\"model\": \"\\ud800\"}"),
          std::string("\"\xFF\""), std::string(100'000, '['), std::string(100'000, '{')})
        CHECK(moira::tokenizer::parse(text, "test").error().code == errc::corrupt_file);
    json deep = small();
    json sequence = deep["pre_tokenizer"];
    for (int i = 0; i < 100; ++i)
        sequence = {{"type", "Sequence"}, {"pretokenizers", {sequence}}};
    deep["pre_tokenizer"] = sequence;
    CHECK(error_of(deep) == errc::corrupt_file);
}

TEST_CASE("a file cut off anywhere is corrupt") {
    const std::string text = small().dump();
    for (std::size_t bytes = 0; bytes < text.size(); bytes += 7)
        CHECK(moira::tokenizer::parse(text.substr(0, bytes), "test").error().code == errc::corrupt_file);
}

TEST_CASE("a value of another type in any place gives an error or a tokenizer, never a crash") {
    const json replacements[] = {nullptr, true, -1, 1e300, "text", json::array({1}), {{"type", "Sequence"}}};
    json whole = small();
    whole["post_processor"] = template_of("<s>", "two");
    whole["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}};
    whole["model"]["merges"] = {"a b"};
    whole["post_processor"]["special_tokens"]["<s>"]["ids"] = {0};
    const json flat = whole.flatten();
    int refused = 0;
    for (const auto& [pointer, unused] : flat.items())
        for (const json& replacement : replacements) {
            json changed = whole;
            changed[json::json_pointer(pointer)] = replacement;
            const auto parsed = moira::tokenizer::parse(changed.dump(), "test");
            if (parsed)
                CHECK(parsed->encode("ab<s>").has_value());
            else
                ++refused;
        }
    CHECK(refused > 50);
}
