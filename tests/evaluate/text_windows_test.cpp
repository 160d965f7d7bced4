#include "core/evaluate/text_windows.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

std::vector<text_window> windows_of(std::size_t tokens, std::int32_t window, std::int32_t stride) {
    auto made = cut_windows(tokens, window, stride);
    REQUIRE_MESSAGE(made, made.error().message);
    return std::move(*made);
}

/// How often each token is scored.
std::vector<int> times_scored(const std::vector<text_window>& windows, std::size_t tokens) {
    std::vector<int> times(tokens, 0);
    for (const auto& window : windows)
        for (auto token = window.scored_first; token < window.last; ++token)
            ++times.at(token);
    return times;
}

} // namespace

TEST_CASE("a text shorter than a window is one window and its first token is not scored") {
    const auto windows = windows_of(5, 8, 8);
    REQUIRE(windows.size() == 1);
    CHECK(windows[0].first == 0);
    CHECK(windows[0].scored_first == 1);
    CHECK(windows[0].last == 5);
    CHECK(windows[0].scored() == 4);
}

TEST_CASE("windows that do not overlap leave out the first token of each") {
    const auto windows = windows_of(10, 4, 4);
    REQUIRE(windows.size() == 3);
    CHECK(times_scored(windows, 10) == std::vector<int>{0, 1, 1, 1, 0, 1, 1, 1, 0, 1});
}

TEST_CASE("windows that overlap score every token but the first once, behind enough others") {
    const auto windows = windows_of(11, 4, 3);
    CHECK(times_scored(windows, 11) == std::vector<int>{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
    for (std::size_t index = 1; index < windows.size(); ++index)
        CHECK(windows[index].scored_first - windows[index].first >= 1);
}

TEST_CASE("at any size tokens are scored at most once, inside the text, with window - stride before them") {
    for (std::size_t tokens = 2; tokens < 40; ++tokens)
        for (std::int32_t window = 2; window < 12; ++window)
            for (std::int32_t stride = 1; stride <= window; ++stride) {
                CAPTURE(tokens);
                CAPTURE(window);
                CAPTURE(stride);
                const auto windows = windows_of(tokens, window, stride);
                const auto times = times_scored(windows, tokens);
                for (std::size_t token = 0; token < tokens; ++token) {
                    const bool opens_window = token % static_cast<std::size_t>(window) == 0;
                    CHECK(times[token] == (token == 0 || (stride == window && opens_window) ? 0 : 1));
                }
                for (std::size_t index = 0; index < windows.size(); ++index) {
                    CHECK(windows[index].tokens() <= static_cast<std::size_t>(window));
                    CHECK(windows[index].scored() > 0);
                    if (index > 0)
                        CHECK(windows[index].scored_first - windows[index].first >=
                              static_cast<std::size_t>(window - stride));
                }
            }
}

TEST_CASE("a last window of one token is not run") {
    CHECK(windows_of(9, 4, 4).size() == 2);
}

TEST_CASE("windows and strides that cannot work are refused") {
    for (const auto& [window, stride] : {std::pair{1, 1}, {0, 0}, {4, 0}, {4, 5}, {4, -1}, {-4, 1}}) {
        const auto made = cut_windows(100, window, stride);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == errc::invalid_argument);
    }
    CHECK_FALSE(cut_windows(1, 4, 4));
    CHECK_FALSE(cut_windows(0, 4, 4));
}
