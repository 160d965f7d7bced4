#include "core/text/added_tokens.hpp"

#include "core/text/split_pattern.hpp"

#include <algorithm>
#include <cstdint>

namespace moira {
namespace {

bool is_continuation(char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

struct character {
    std::uint32_t code = 0;
    std::size_t bytes = 0;
};

/// The character at the beginning of well-formed, not empty `text`.
character first_character(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text[0]);
    character read{lead, 1};
    if (lead >= 0xC0)
        read.code = lead >= 0xF0 ? lead & 0x07 : lead >= 0xE0 ? lead & 0x0F : lead & 0x1F;
    while (read.bytes < text.size() && is_continuation(text[read.bytes]))
        read.code = (read.code << 6) | (static_cast<unsigned char>(text[read.bytes++]) & 0x3F);
    return read;
}

character last_character(std::string_view text) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && is_continuation(text[begin]))
        --begin;
    return first_character(text.substr(begin));
}

bool touches_word(std::string_view before, std::string_view after) {
    return (!before.empty() && is_word_character(last_character(before).code)) ||
           (!after.empty() && is_word_character(first_character(after).code));
}

std::size_t trailing_space_bytes(std::string_view text) {
    std::size_t bytes = 0;
    while (bytes < text.size()) {
        const character last = last_character(text.substr(0, text.size() - bytes));
        if (!is_space_character(last.code))
            break;
        bytes += last.bytes;
    }
    return bytes;
}

std::size_t leading_space_bytes(std::string_view text) {
    std::size_t bytes = 0;
    while (bytes < text.size()) {
        const character first = first_character(text.substr(bytes));
        if (!is_space_character(first.code))
            break;
        bytes += first.bytes;
    }
    return bytes;
}

} // namespace

void added_token_matcher::set_tokens(std::vector<added_token> tokens) {
    passes_ = {};
    for (added_token& token : tokens) {
        if (token.content.empty())
            continue;
        pass& into = passes_[token.normalized ? 1 : 0];
        into.begins[static_cast<unsigned char>(token.content[0])] = true;
        into.tokens.push_back(std::move(token));
    }
    for (pass& sorted : passes_)
        std::sort(sorted.tokens.begin(), sorted.tokens.end(),
                  [](const added_token& a, const added_token& b) { return a.content < b.content; });
}

const added_token* added_token_matcher::longest_at(const pass& tokens, std::string_view text, std::size_t position) {
    auto first = tokens.tokens.begin();
    auto last = tokens.tokens.end();
    const added_token* longest = nullptr;
    // All tokens in [first, last) share the first `depth` bytes with the text; the shortest one stands in front.
    for (std::size_t depth = 0; position + depth < text.size() && first != last; ++depth) {
        const auto wanted = static_cast<unsigned char>(text[position + depth]);
        const auto byte_at = [depth](const added_token& token) {
            return depth < token.content.size() ? static_cast<int>(static_cast<unsigned char>(token.content[depth]))
                                                : -1;
        };
        first =
            std::lower_bound(first, last, wanted, [&](const added_token& t, int byte) { return byte_at(t) < byte; });
        last = std::upper_bound(first, last, wanted, [&](int byte, const added_token& t) { return byte < byte_at(t); });
        if (first != last && first->content.size() == depth + 1)
            longest = &*first;
    }
    return longest;
}

void added_token_matcher::split_piece(const pass& tokens, std::string_view text, std::vector<piece>& pieces) {
    std::size_t taken = 0; // everything before is in `pieces`
    std::size_t position = 0;
    while (position < text.size()) {
        const bool may_begin = tokens.begins[static_cast<unsigned char>(text[position])];
        const added_token* token = may_begin ? longest_at(tokens, text, position) : nullptr;
        if (token == nullptr) {
            ++position;
            continue;
        }
        std::size_t begin = position;
        std::size_t end = position + token->content.size();
        position = end;
        if (token->single_word && touches_word(text.substr(0, begin), text.substr(end)))
            continue;
        if (token->left_strip)
            begin -= trailing_space_bytes(text.substr(taken, begin - taken));
        if (token->right_strip)
            end += leading_space_bytes(text.substr(end));
        if (begin > taken)
            pieces.push_back({text.substr(taken, begin - taken), -1});
        pieces.push_back({text.substr(begin, end - begin), token->id});
        position = taken = end;
    }
    if (taken < text.size())
        pieces.push_back({text.substr(taken), -1});
}

std::vector<added_token_matcher::piece> added_token_matcher::split(std::string_view text) const {
    std::vector<piece> pieces;
    split_piece(passes_[0], text, pieces);
    if (passes_[1].tokens.empty())
        return pieces;
    std::vector<piece> result_pieces;
    for (const piece& part : pieces) {
        if (part.id >= 0)
            result_pieces.push_back(part);
        else
            split_piece(passes_[1], part.text, result_pieces);
    }
    return result_pieces;
}

} // namespace moira
