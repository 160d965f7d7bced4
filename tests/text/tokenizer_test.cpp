#include "core/text/tokenizer.hpp"

#include "core/text/text_stream.hpp"

#include <chrono>
#include <cstdlib>
#include <doctest/doctest.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

namespace {

const moira::tokenizer& demo() {
    static const moira::tokenizer loaded =
        std::move(moira::tokenizer::load(MOIRA_SOURCE_DIRECTORY "/config/models/moira-demo").value());
    return loaded;
}

/// Returns how many cases were compared.
int check_cases(const moira::tokenizer& tokenizer, const std::string& path) {
    std::ifstream file(path);
    int cases = 0;
    for (std::string line; std::getline(file, line); ++cases) {
        const auto expected = nlohmann::json::parse(line);
        const auto text = expected["text"].get<std::string>();
        CAPTURE(text);
        const auto plain = tokenizer.encode(text, moira::tokenizer::special::skip);
        REQUIRE(plain.has_value());
        CHECK(*plain == expected["ids"].get<std::vector<moira::token_id>>());
        const auto with_special = tokenizer.encode(text);
        REQUIRE(with_special.has_value());
        CHECK(*with_special == expected["ids_with_special"].get<std::vector<moira::token_id>>());
        CHECK(tokenizer.decode(*plain, true) == expected["decoded"].get<std::string>());
    }
    return cases;
}

std::string utf8_of(std::uint32_t code) {
    const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
    if (code < 0x80)
        return {byte(code)};
    if (code < 0x800)
        return {byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F))};
    if (code < 0x10000)
        return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
    return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)), byte(0x80 | (code >> 6 & 0x3F)),
            byte(0x80 | (code & 0x3F))};
}

std::string random_text(std::mt19937& random) {
    constexpr std::uint32_t ends[] = {0x80, 0x80, 0x800, 0x10000, 0x110000};
    std::string text;
    for (auto length = random() % 60; length > 0; --length) {
        const std::uint32_t code = random() % ends[random() % std::size(ends)];
        if (code < 0xD800 || code > 0xDFFF)
            text += utf8_of(code);
    }
    return text;
}

} // namespace

TEST_CASE("the bundled tokenizer gives the ids and the text of the reference for all cases") {
    CHECK(check_cases(demo(), MOIRA_TEST_DATA "/tokenizers/moira-demo/cases.jsonl") == 125);
}

TEST_CASE("another tokenizer named by MOIRA_TOKENIZER_CASES agrees with its reference" *
          doctest::skip(std::getenv("MOIRA_TOKENIZER_CASES") == nullptr)) {
    const std::string folder = std::getenv("MOIRA_TOKENIZER_CASES");
    const auto loaded = moira::tokenizer::load(folder);
    REQUIRE(loaded.has_value());
    CHECK(check_cases(*loaded, folder + "/cases.jsonl") > 0);
}

TEST_CASE("decode inverts encode on random Unicode text") {
    std::mt19937 random(7);
    for (int i = 0; i < 2'000; ++i) {
        const std::string text = random_text(random);
        CAPTURE(text);
        const auto ids = demo().encode(text);
        REQUIRE(ids.has_value());
        CHECK(demo().decode(*ids) == text);
    }
}

TEST_CASE("special tokens written in the text are recognised, hidden by decode and shown on demand") {
    const auto user = demo().id_of("<|User|>");
    REQUIRE(user.has_value());
    const auto ids = demo().encode("a<|User|>b", moira::tokenizer::special::skip);
    REQUIRE(ids.has_value());
    REQUIRE(ids->size() == 3);
    CHECK((*ids)[1] == *user);
    CHECK(demo().is_special(*user));
    CHECK_FALSE(demo().is_special((*ids)[0]));
    CHECK(demo().decode(*ids) == "ab");
    CHECK(demo().decode(*ids, true) == "a<|User|>b");
    CHECK(demo().token_bytes(*user).empty());
    CHECK(demo().token_bytes(*user, true) == "<|User|>");
}

TEST_CASE("ids outside the vocabulary yield nothing") {
    CHECK(demo().vocabulary_size() == 4096);
    for (const moira::token_id id : {-1, 4096, INT32_MAX, INT32_MIN}) {
        CHECK(demo().token_bytes(id, true).empty());
        CHECK_FALSE(demo().is_special(id));
    }
    CHECK(demo().decode({-5, 4096}).empty());
    CHECK_FALSE(demo().id_of("no such token at all").has_value());
}

TEST_CASE("text that is not UTF-8 or too long is refused") {
    for (const char* text : {"\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\x80", "\xF5\x80\x80\x80"})
        CHECK(demo().encode(text).error().code == moira::errc::invalid_utf8);
    const auto strict = moira::tokenizer::load(MOIRA_SOURCE_DIRECTORY "/config/models/moira-demo", {4, 1 << 20});
    REQUIRE(strict.has_value());
    CHECK(strict->encode("1234").has_value());
    CHECK(strict->encode("12345").error().code == moira::errc::prompt_too_long);
}

TEST_CASE("a folder without a tokenizer and a file over its limit are told apart") {
    CHECK(moira::tokenizer::load(MOIRA_TEST_DATA "/no/such/folder").error().code == moira::errc::not_found);
    const auto large = moira::tokenizer::load(MOIRA_SOURCE_DIRECTORY "/config/models/moira-demo", {1 << 20, 1'000});
    CHECK(large.error().code == moira::errc::corrupt_file);
}

TEST_CASE("a million equal letters and a million characters of prose take near linear time") {
    const std::string letters(1'000'000, 'a');
    std::string prose;
    while (prose.size() < 1'000'000)
        prose += "Once upon a time there lived, near a wood, 12 old men who couldn't agree.\n";
    for (const std::string* text : std::initializer_list<const std::string*>{&letters, &prose}) {
        const auto begin = std::chrono::steady_clock::now();
        const auto ids = demo().encode(*text);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        REQUIRE(ids.has_value());
        CHECK(demo().decode(*ids) == *text);
        MESSAGE("1 MB in " << seconds.count() << " s");
        CHECK(seconds.count() < 20.0); // quadratic merging would take many minutes
    }
}

TEST_CASE("many threads share one tokenizer") {
    const std::string text = "Hello world, 12 345 naïve 你好 🦙!\n\n  x";
    const auto expected = demo().encode(text).value();
    std::vector<std::thread> threads;
    std::array<int, 4> equal{};
    for (int& count : equal)
        threads.emplace_back([&, &count = count] {
            for (int i = 0; i < 200; ++i)
                count += demo().encode(text).value() == expected ? 1 : 0;
        });
    for (std::thread& thread : threads)
        thread.join();
    for (const int count : equal)
        CHECK(count == 200);
}
