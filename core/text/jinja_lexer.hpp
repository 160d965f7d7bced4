#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

enum class jinja_token_kind {
    text,
    tag_begin,
    tag_end,
    output_begin,
    output_end,
    name,
    string,
    integer,
    real,
    symbol,
    end
};

struct jinja_token {
    jinja_token_kind kind = jinja_token_kind::end;
    std::string text; ///< raw text, name, symbol, or a string with its escapes resolved
    std::int64_t integer = 0;
    double real = 0;
    std::size_t line = 1;
};

/// Cuts a template into tokens. White space is handled as Jinja does with trim_blocks and lstrip_blocks on: the line
/// break behind a tag goes, so do blanks between the line's beginning and a tag; `-` takes all white space on its side,
/// `+` keeps it. One line break at the very end goes too. Throws jinja_failure (corrupt_file, unsupported).
std::vector<jinja_token> read_jinja_tokens(std::string_view source);

} // namespace moira
