#include "core/text/pre_tokenizer.hpp"

namespace moira {
namespace {

constexpr std::string_view byte_level_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct segment {
    byte_range range;
    bool is_match = false;
};

/// Calls `take` for every match and everything between, left to right.
template <class Take>
void for_each_segment(std::size_t text_bytes, const std::vector<byte_range>& matches, bool invert, Take take) {
    std::size_t position = 0;
    for (const byte_range& match : matches) {
        if (match.begin > position)
            take(segment{{position, match.begin}, invert});
        take(segment{match, !invert});
        position = match.end;
    }
    if (position < text_bytes)
        take(segment{{position, text_bytes}, invert});
}

/// Joins segments from left to right as the behavior says and hands the pieces to `emit`.
class piece_joiner {
public:
    piece_joiner(split_behavior behavior, std::string_view text, std::vector<std::string_view>& pieces)
        : behavior_(behavior), text_(text), pieces_(pieces) {}

    void take(const segment& next) {
        if (!joins(next))
            flush();
        if (behavior_ == split_behavior::removed && next.is_match) {
            flush();
        } else if (open_) {
            current_.end = next.range.end;
        } else {
            current_ = next.range;
            open_ = true;
        }
        previous_is_match_ = next.is_match;
    }

    void flush() {
        if (open_ && current_.end > current_.begin)
            pieces_.push_back(text_.substr(current_.begin, current_.end - current_.begin));
        open_ = false;
    }

private:
    bool joins(const segment& next) const {
        switch (behavior_) {
        case split_behavior::contiguous:
            return previous_is_match_ == next.is_match;
        case split_behavior::merged_with_previous:
            return next.is_match && !previous_is_match_;
        case split_behavior::merged_with_next:
            return previous_is_match_ && !next.is_match;
        case split_behavior::isolated:
        case split_behavior::removed:
            break;
        }
        return false;
    }

    split_behavior behavior_;
    std::string_view text_;
    std::vector<std::string_view>& pieces_;
    byte_range current_;
    bool open_ = false;
    bool previous_is_match_ = false;
};

} // namespace

result<void> pre_tokenizer::add_byte_level(bool prefix_space, bool use_regex) {
    if (prefix_space)
        prefix_space_before_ = steps_.size();
    if (use_regex) {
        auto pattern = split_pattern::regex(byte_level_pattern);
        if (!pattern)
            return tl::make_unexpected(pattern.error());
        steps_.push_back({std::move(*pattern), split_behavior::isolated, false});
    }
    has_byte_level_ = true;
    return {};
}

result<void> pre_tokenizer::split(std::string_view text, pre_tokenizer_scratch& scratch,
                                  std::vector<std::string_view>& pieces) const {
    pieces.clear();
    scratch.owned.clear();
    if (!text.empty())
        pieces.push_back(text);
    for (std::size_t i = 0; i <= steps_.size(); ++i) {
        if (i == prefix_space_before_)
            for (std::string_view& piece : pieces)
                if (piece.front() != ' ')
                    piece = scratch.owned.emplace_back(std::string(1, ' ').append(piece));
        if (i == steps_.size())
            break;
        scratch.next.clear();
        for (const std::string_view piece : pieces) {
            auto found = steps_[i].pattern.find_all(piece, scratch.patterns, scratch.matches);
            if (!found)
                return found;
            piece_joiner joiner(steps_[i].behavior, piece, scratch.next);
            for_each_segment(piece.size(), scratch.matches, steps_[i].invert,
                             [&](const segment& next) { joiner.take(next); });
            joiner.flush();
        }
        pieces.swap(scratch.next);
    }
    return {};
}

} // namespace moira
