#include "core/evaluate/text_windows.hpp"

#include <algorithm>
#include <string>

namespace moira {

result<std::vector<text_window>> cut_windows(std::size_t tokens, std::int32_t window, std::int32_t stride) {
    if (window < 2)
        return fail(errc::invalid_argument,
                    "a window of " + std::to_string(window) + " tokens scores nothing: it takes at least 2");
    if (stride < 1 || stride > window)
        return fail(errc::invalid_argument, "a stride of " + std::to_string(stride) +
                                                " tokens: expected 1 to the window of " + std::to_string(window));
    if (tokens < 2)
        return fail(errc::invalid_argument,
                    "the text has " + std::to_string(tokens) +
                        " tokens: at least 2 are needed, since a token is scored from those before it");
    std::vector<text_window> windows;
    std::size_t scored_to = 0;
    for (std::size_t first = 0; scored_to < tokens; first += static_cast<std::size_t>(stride)) {
        const auto last = std::min(tokens, first + static_cast<std::size_t>(window));
        const text_window next{first, std::max(scored_to, first + 1), last};
        scored_to = last;
        // A last window of one token has nothing to score.
        if (next.scored_first < next.last)
            windows.push_back(next);
    }
    return windows;
}

} // namespace moira
