#pragma once

#include "core/base/ids.hpp"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// A token that is recognised in the text as a whole, before anything is cut.
struct added_token {
    token_id id = 0;
    std::string content;
    bool normalized = false;
    bool left_strip = false;  ///< takes the white space before it along
    bool right_strip = false; ///< and after it
    bool single_word = false; ///< only where no word character touches it
};

/// Finds added tokens: leftmost, of equal beginnings the longest; first those that are matched in the raw text, then
/// the normalised ones in what is left. Immutable.
class added_token_matcher {
public:
    static constexpr std::size_t content_bytes_max = 1'024; ///< bounds the work per byte of text

    struct piece {
        std::string_view text;
        token_id id = -1; ///< -1: plain text
    };

    /// Tokens with empty content are left out.
    void set_tokens(std::vector<added_token> tokens);

    /// Cuts `text` (UTF-8) into plain pieces and tokens.
    std::vector<piece> split(std::string_view text) const;

private:
    struct pass {
        std::vector<added_token> tokens; // by content
        std::array<bool, 256> begins{};  // first bytes that any token has
    };

    static const added_token* longest_at(const pass& tokens, std::string_view text, std::size_t position);
    static void split_piece(const pass& tokens, std::string_view text, std::vector<piece>& pieces);

    std::array<pass, 2> passes_;
};

} // namespace moira
