#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// Turns a stream of token bytes into a stream of whole UTF-8 text: holds back the bytes of a character until it is
/// complete (at most 3), replaces what can never become one by U+FFFD. The pieces concatenate to the decoded whole.
class utf8_stream {
public:
    /// Text that became complete with these bytes; may be empty.
    std::string push(std::string_view bytes);

    /// What is still held back, as U+FFFD, when the stream ends.
    std::string finish();

private:
    std::string held_;
};

/// Finds stop strings in streamed text. Text that could be the beginning of a stop string is held back until it is
/// decided, so nothing of a stop string is ever shown. The earliest match wins, of equal beginnings the longest.
class stop_matcher {
public:
    static constexpr std::size_t stops_max = 16;         ///< a bound on work per character
    static constexpr std::size_t stop_bytes_max = 1'024; ///< also bounds what is held back

    /// Precondition: at most stops_max strings of 1 .. stop_bytes_max bytes each (checked where requests are
    /// validated).
    explicit stop_matcher(std::vector<std::string> stops = {});

    struct output {
        std::string text; ///< may be shown now
        bool stopped = false;
    };

    /// After `stopped` no more text may be pushed.
    output push(std::string_view text);

    /// The stream ended without a stop: what was held back may be shown.
    std::string finish();

private:
    std::vector<std::string> stops_;
    std::string held_;
};

/// True when `text` is well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no overlong forms).
bool is_utf8(std::string_view text) noexcept;

} // namespace moira
