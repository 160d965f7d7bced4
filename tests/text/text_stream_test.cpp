#include "core/text/text_stream.hpp"

#include <doctest/doctest.h>
#include <random>

namespace {

std::string whole_of(std::string_view bytes) {
    moira::utf8_stream stream;
    std::string text = stream.push(bytes);
    return text + stream.finish();
}

} // namespace

TEST_CASE("a character is held back until its last byte") {
    moira::utf8_stream stream;
    CHECK(stream.push("a\xF0\x9F") == "a");
    CHECK(stream.push("\xA6").empty());
    CHECK(stream.push("\x99"
                      "b") == "\xF0\x9F\xA6\x99"
                              "b");
    CHECK(stream.finish().empty());
}

TEST_CASE("bytes that can never become a character are replaced, one mark per longest beginning") {
    CHECK(whole_of("\xFF") == "\uFFFD");
    CHECK(whole_of("a\x80z") == "a\uFFFDz");
    CHECK(whole_of("\xE2\x82") == "\uFFFD"); // cut off at the end
    CHECK(whole_of("\xE2\x82"
                   "A") == "\uFFFDA");                       // cut off in the middle
    CHECK(whole_of("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD"); // a surrogate
    CHECK(whole_of("\xC0\xAF") == "\uFFFD\uFFFD");           // overlong
    CHECK(whole_of("\xF4\x90\x80\x80") == "\uFFFD\uFFFD\uFFFD\uFFFD");
    CHECK(whole_of("\xF0\x9F\xF0\x9F\xA6\x99") == "\uFFFD\xF0\x9F\xA6\x99");
}

TEST_CASE("the pieces concatenate to the whole wherever random bytes are cut, and every piece is UTF-8") {
    std::mt19937 random(11);
    constexpr unsigned char interesting[] = {'a',  0x7F, 0x80, 0xBF, 0xC2, 0xE0, 0xA0,
                                             0xE2, 0xED, 0xF0, 0x9F, 0xF4, 0x8F, 0xFF};
    for (int i = 0; i < 3'000; ++i) {
        std::string bytes;
        for (auto length = random() % 12; length > 0; --length)
            bytes += static_cast<char>(interesting[random() % std::size(interesting)]);
        moira::utf8_stream stream;
        std::string text;
        for (std::size_t at = 0; at < bytes.size();) {
            const std::size_t step = 1 + random() % 3;
            const std::string piece = stream.push(std::string_view(bytes).substr(at, step));
            CHECK(moira::is_utf8(piece));
            text += piece;
            at += step;
        }
        text += stream.finish();
        CHECK(text == whole_of(bytes));
        if (moira::is_utf8(bytes))
            CHECK(text == bytes);
        else
            CHECK(text.find("\uFFFD") != std::string::npos);
    }
}

TEST_CASE("is_utf8 accepts the borders of every range and refuses what lies beyond") {
    for (const char* good : {"", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                             "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
        CHECK(moira::is_utf8(good));
    for (const char* bad : {"\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xEF\xBF", "\xF0\x8F\xBF\xBF",
                            "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xC2\x41", "a\xE2\x82"})
        CHECK_FALSE(moira::is_utf8(bad));
}

namespace {

struct matched {
    std::string shown;
    bool stopped = false;
};

matched run(const std::vector<std::string>& stops, std::string_view text, std::size_t step) {
    moira::stop_matcher matcher(stops);
    matched result;
    for (std::size_t at = 0; at < text.size(); at += step) {
        const auto output = matcher.push(text.substr(at, step));
        result.shown += output.text;
        if (output.stopped) {
            result.stopped = true;
            return result;
        }
    }
    result.shown += matcher.finish();
    return result;
}

/// The specification: everything before the earliest occurrence.
std::string before_earliest(const std::vector<std::string>& stops, std::string_view text) {
    std::size_t end = std::string_view::npos;
    for (const std::string& stop : stops)
        end = std::min(end, text.find(stop));
    return std::string(text.substr(0, end));
}

} // namespace

TEST_CASE("text before a stop string is shown, nothing of the stop string is") {
    moira::stop_matcher matcher({"</s>"});
    CHECK(matcher.push("hello <").text == "hello ");
    CHECK(matcher.push("b><").text == "<b>");
    CHECK(matcher.push("/").text.empty());
    const auto last = matcher.push("s> tail");
    CHECK(last.stopped);
    CHECK(last.text.empty());
}

TEST_CASE("what could have become a stop string is shown when the stream ends") {
    moira::stop_matcher matcher({"stop"});
    CHECK(matcher.push("do not sto").text == "do not ");
    CHECK(matcher.finish() == "sto");
}

TEST_CASE("without stop strings everything is shown at once") {
    moira::stop_matcher matcher;
    const auto output = matcher.push("anything");
    CHECK(output.text == "anything");
    CHECK_FALSE(output.stopped);
}

TEST_CASE("the earliest of several stop strings wins, however the text is cut") {
    const std::vector<std::string> stops = {"abcd", "bc", "bcx"};
    for (const std::size_t step : {1, 2, 3, 100}) {
        CHECK(run(stops, "_abcd", step).shown == "_");
        CHECK(run(stops, "_abcx", step).shown == "_a");
        CHECK(run(stops, "_abc", step).shown == "_a"); // a longer one was still possible when the stream ended
        CHECK(run(stops, "_ab", step).shown == "_ab");
    }
}

TEST_CASE("stop matching equals a search in the whole text for random texts, stops and cuts") {
    std::mt19937 random(5);
    const auto word = [&](std::size_t length_max) {
        std::string text;
        for (auto length = 1 + random() % length_max; length > 0; --length)
            text += static_cast<char>('a' + random() % 2);
        return text;
    };
    for (int i = 0; i < 5'000; ++i) {
        const std::string text = word(20);
        std::vector<std::string> stops;
        for (auto count = 1 + random() % 3; count > 0; --count)
            stops.push_back(word(5));
        CAPTURE(text);
        CHECK(run(stops, text, 1 + random() % 4).shown == before_earliest(stops, text));
    }
}
