#include "core/text/pre_tokenizer.hpp"

#include <doctest/doctest.h>

namespace {

using pieces = std::vector<std::string_view>;

struct cutting {
    moira::pre_tokenizer cutter;
    moira::pre_tokenizer_scratch scratch;

    pieces of(std::string_view text) {
        pieces found;
        REQUIRE(cutter.split(text, scratch, found).has_value());
        return found;
    }
};

pieces split(const char* pattern, moira::split_behavior behavior, bool invert, std::string_view text) {
    cutting cut;
    cut.cutter.add_split({std::move(moira::split_pattern::regex(pattern).value()), behavior, invert});
    return cut.of(text);
}

} // namespace

TEST_CASE("each behavior of Split treats matches as the format says") {
    using enum moira::split_behavior;
    const char* text = "the-final--countdown-";
    CHECK(split("-", isolated, false, text) == pieces{"the", "-", "final", "-", "-", "countdown", "-"});
    CHECK(split("-", removed, false, text) == pieces{"the", "final", "countdown"});
    CHECK(split("-", merged_with_previous, false, text) == pieces{"the-", "final-", "-", "countdown-"});
    CHECK(split("-", merged_with_next, false, text) == pieces{"the", "-final", "-", "-countdown", "-"});
    CHECK(split("-", contiguous, false, text) == pieces{"the", "-", "final", "--", "countdown", "-"});
}

TEST_CASE("an inverted Split treats what lies between the matches as the match") {
    using enum moira::split_behavior;
    CHECK(split("[a-z]+", removed, true, "ab, cd!") == pieces{"ab", "cd"});
    CHECK(split("[a-z]+", isolated, true, "ab, cd!") == pieces{"ab", ", ", "cd", "!"});
    CHECK(split("[a-z]+", merged_with_previous, true, "ab, cd!") == pieces{"ab, ", "cd!"});
}

TEST_CASE("empty matches cut without taking anything and always come to an end") {
    using enum moira::split_behavior;
    CHECK(split("(?=b)", isolated, false, "abab") == pieces{"a", "ba", "b"});
    CHECK(split("x*", isolated, false, "é你") == pieces{"é", "你"});
}

TEST_CASE("a look-ahead sees the end of the piece, not of the text") {
    cutting cut;
    cut.cutter.add_split({std::move(moira::split_pattern::regex("[0-9]").value())});
    cut.cutter.add_split({std::move(moira::split_pattern::regex(R"(\s+(?!\S)|\s+|\S+)").value())});
    CHECK(cut.of("a  1  b") == pieces{"a", "  ", "1", " ", " ", "b"});
}

TEST_CASE("a literal pattern is not a regular expression") {
    cutting cut;
    cut.cutter.add_split({moira::split_pattern::literal("."), moira::split_behavior::removed, false});
    CHECK(cut.of("a.b..c") == pieces{"a", "b", "c"});
}

TEST_CASE("ByteLevel cuts with the pattern of GPT-2 and can put a space in front") {
    cutting cut;
    REQUIRE(cut.cutter.add_byte_level(true, true).has_value());
    CHECK(cut.of("I'll pay 12  dollars") == pieces{" I", "'ll", " pay", " 12", " ", " dollars"});
    CHECK(cut.of(" x") == pieces{" x"});
    CHECK(cut.of("").empty());
}

TEST_CASE("a pattern that does not compile or is too long is refused") {
    CHECK(moira::split_pattern::regex("(").error().code == moira::errc::unsupported);
    CHECK(moira::split_pattern::regex(R"(\p{NoSuchProperty})").error().code == moira::errc::unsupported);
    CHECK(moira::split_pattern::regex(std::string(1'000'000, 'a')).error().code == moira::errc::corrupt_file);
    CHECK_FALSE(moira::split_pattern::regex(std::string(5'000, '(') + std::string(5'000, ')')).has_value());
}

TEST_CASE("an exponential pattern gives up instead of hanging") {
    cutting cut;
    cut.cutter.add_split({std::move(moira::split_pattern::regex("(?:a|a|b)+c").value())});
    pieces found;
    const std::string text(60, 'a');
    CHECK(cut.cutter.split(text, cut.scratch, found).error().code == moira::errc::prompt_too_long);
}
