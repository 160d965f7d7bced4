#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// Positions in a text, in bytes.
struct byte_range {
    std::size_t begin = 0;
    std::size_t end = 0;
};

/// What one thread needs to search; reuse it, making one allocates.
class pattern_scratch {
public:
    pattern_scratch();
    ~pattern_scratch();
    pattern_scratch(const pattern_scratch&) = delete;
    pattern_scratch& operator=(const pattern_scratch&) = delete;

private:
    friend class split_pattern;
    struct state;
    std::unique_ptr<state> state_;
};

/// A regular expression of a pre-tokenizer, in the dialect of Oniguruma, or a literal string. Immutable: any number of
/// threads may search, each with a scratch of its own.
class split_pattern {
public:
    static constexpr std::size_t pattern_bytes_max = 64 * 1024; ///< published patterns are below 1 KiB

    /// Errors: unsupported with Oniguruma's words; corrupt_file when the pattern is too long.
    static result<split_pattern> regex(std::string_view pattern);
    static split_pattern literal(std::string_view text);

    split_pattern(split_pattern&&) noexcept;
    split_pattern& operator=(split_pattern&&) noexcept;
    ~split_pattern();

    /// All matches from left to right, empty ones too (they cut as well); `matches` is replaced. `text` must be UTF-8.
    /// Errors: prompt_too_long when the search needs more steps or stack than one prompt may cost.
    result<void> find_all(std::string_view text, pattern_scratch& scratch, std::vector<byte_range>& matches) const;

private:
    struct compiled;
    split_pattern();
    std::unique_ptr<compiled> compiled_; // null for a literal
    std::string literal_;
};

/// Unicode White_Space / word characters by the tables of the regular expressions, for the stripping of added tokens.
bool is_space_character(std::uint32_t code) noexcept;
bool is_word_character(std::uint32_t code) noexcept;

} // namespace moira
