#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moira {

/// A stretch of a text that a model reads at once: tokens [first, last). Those from `scored_first` on are scored, each
/// from the ones before it in the window.
struct text_window {
    std::size_t first = 0, scored_first = 0, last = 0;

    std::size_t tokens() const noexcept { return last - first; }
    std::size_t scored() const noexcept { return last - scored_first; }
};

/// Cuts `tokens` into windows of at most `window` tokens that begin `stride` tokens apart. A token is scored in the
/// first window that holds it behind at least one other token: with stride < window every token but the first of the
/// text, each with at least window - stride tokens before it (fewer only in the first window); with stride = window not
/// the first token of each window either, because nothing stands before it. This is the usual way for models with a
/// fixed context. Errors: invalid_argument (window below 2, stride outside 1..window, fewer than 2 tokens).
result<std::vector<text_window>> cut_windows(std::size_t tokens, std::int32_t window, std::int32_t stride);

} // namespace moira
