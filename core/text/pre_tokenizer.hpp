#pragma once

#include "core/text/split_pattern.hpp"

#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// What becomes of the matches of a Split, in the words of the Hugging Face format.
enum class split_behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

struct split_step {
    split_pattern pattern;
    split_behavior behavior = split_behavior::isolated;
    bool invert = false; ///< what lies between the matches counts as the match
};

/// What one thread needs while it cuts; also owns the pieces that had to be changed.
struct pre_tokenizer_scratch {
    pattern_scratch patterns;
    std::vector<byte_range> matches;
    std::vector<std::string_view> next;
    std::deque<std::string> owned;
};

/// Cuts a text into the pieces that merges never cross. Immutable; threads bring their own scratch.
class pre_tokenizer {
public:
    pre_tokenizer() = default;

    void add_split(split_step step) { steps_.push_back(std::move(step)); }

    /// ByteLevel: optionally a space before every piece that has none, then optionally GPT-2's own pattern.
    /// Errors: unsupported (never, for the built-in pattern).
    result<void> add_byte_level(bool prefix_space, bool use_regex);

    bool has_byte_level() const noexcept { return has_byte_level_; }

    /// Every step runs on every piece as a string of its own, so that a look-ahead sees the piece's end. `pieces` is
    /// replaced; its views live as long as `text` and `scratch.owned`. Errors: prompt_too_long.
    result<void> split(std::string_view text, pre_tokenizer_scratch& scratch,
                       std::vector<std::string_view>& pieces) const;

private:
    std::vector<split_step> steps_;
    std::size_t prefix_space_before_ = SIZE_MAX; // index of the step before which spaces are added
    bool has_byte_level_ = false;
};

} // namespace moira
