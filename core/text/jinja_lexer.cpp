#include "core/text/jinja_lexer.hpp"

#include "core/text/jinja_budget.hpp"

#include <algorithm>
#include <charconv>

namespace moira {
namespace {

bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool begins_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// Every line break becomes \n; one at the end of the template is dropped.
std::string normalize_line_breaks(std::string_view source) {
    std::string text;
    text.reserve(source.size());
    for (std::size_t i = 0; i < source.size(); ++i) {
        if (source[i] == '\r') {
            text += '\n';
            if (i + 1 < source.size() && source[i + 1] == '\n')
                ++i;
        } else {
            text += source[i];
        }
    }
    if (!text.empty() && text.back() == '\n')
        text.pop_back();
    return text;
}

void append_utf8(std::string& out, std::uint32_t code) {
    const auto add = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) {
        add(code);
    } else if (code < 0x800) {
        add(0xC0 | code >> 6);
        add(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        add(0xE0 | code >> 12);
        add(0x80 | (code >> 6 & 0x3F));
        add(0x80 | (code & 0x3F));
    } else {
        add(0xF0 | code >> 18);
        add(0x80 | (code >> 12 & 0x3F));
        add(0x80 | (code >> 6 & 0x3F));
        add(0x80 | (code & 0x3F));
    }
}

class lexer {
public:
    explicit lexer(std::string_view source) : source_(normalize_line_breaks(source)) {}

    std::vector<jinja_token> read() {
        while (position_ < source_.size())
            read_text_and_tag();
        emit(jinja_token_kind::end, {});
        return std::move(tokens_);
    }

private:
    [[noreturn]] void wrong(const std::string& message) const { jinja_fail_at(errc::corrupt_file, line_, message); }

    char at(std::size_t position) const { return position < source_.size() ? source_[position] : '\0'; }

    void advance(std::size_t bytes) {
        const std::size_t end = std::min(position_ + bytes, source_.size());
        line_ += static_cast<std::size_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(position_),
                                                     source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
        position_ = end;
    }

    void emit(jinja_token_kind kind, std::string text) {
        jinja_token token;
        token.kind = kind;
        token.text = std::move(text);
        token.line = line_;
        tokens_.push_back(std::move(token));
    }

    std::size_t find_tag() const {
        for (std::size_t i = position_; (i = source_.find('{', i)) != std::string::npos; ++i)
            if (at(i + 1) == '{' || at(i + 1) == '%' || at(i + 1) == '#')
                return i;
        return std::string::npos;
    }

    void read_text_and_tag() {
        const std::size_t tag = find_tag();
        if (tag == std::string::npos) {
            emit(jinja_token_kind::text, source_.substr(position_));
            advance(source_.size());
            return;
        }
        const char kind = source_[tag + 1];
        const char sign = at(tag + 2);
        std::string_view text = std::string_view(source_).substr(position_, tag - position_);
        if (sign == '-') {
            while (!text.empty() && is_blank(text.back()))
                text.remove_suffix(1);
        } else if (sign != '+' && kind != '{') {
            text = without_indent(text);
        }
        if (!text.empty())
            emit(jinja_token_kind::text, std::string(text));
        advance(tag - position_ + 2);
        if (kind == '#')
            return skip_comment();
        if (sign == '-' || (sign == '+' && kind == '%'))
            advance(1);
        emit(kind == '{' ? jinja_token_kind::output_begin : jinja_token_kind::tag_begin, {});
        read_inside(kind == '{' ? '}' : '%');
    }

    /// Blanks between the beginning of the line and a tag go.
    std::string_view without_indent(std::string_view text) const {
        const std::size_t line_break = text.rfind('\n');
        if (line_break == std::string_view::npos && !at_line_begin_)
            return text;
        const std::size_t begin = line_break == std::string_view::npos ? 0 : line_break + 1;
        return std::all_of(text.begin() + static_cast<std::ptrdiff_t>(begin), text.end(), is_blank)
                   ? text.substr(0, begin)
                   : text;
    }

    void skip_comment() {
        const std::size_t end = source_.find("#}", position_);
        if (end == std::string::npos)
            wrong("a comment without its end #}");
        const char sign = end > position_ ? source_[end - 1] : '\0';
        advance(end + 2 - position_);
        finish_tag(sign, true);
    }

    /// What the closing bracket takes of the text behind it.
    void finish_tag(char sign, bool trims_line_break) {
        const std::size_t begin = position_;
        std::size_t end = begin;
        if (sign == '-')
            while (end < source_.size() && is_blank(source_[end]))
                ++end;
        else if (sign != '+' && trims_line_break && at(end) == '\n')
            ++end;
        at_line_begin_ = end > begin && source_[end - 1] == '\n';
        advance(end - begin);
    }

    void read_inside(char closing) {
        int brackets = 0;
        for (;;) {
            while (is_blank(at(position_)))
                advance(1);
            if (position_ >= source_.size())
                wrong("a tag without its end");
            const char c = at(position_);
            const bool signed_end = (c == '-' || c == '+') && at(position_ + 1) == closing && at(position_ + 2) == '}';
            if (brackets == 0 && (signed_end || (c == closing && at(position_ + 1) == '}'))) {
                if (signed_end && c == '+' && closing == '}')
                    wrong("'+}}' is not a closing bracket");
                emit(closing == '}' ? jinja_token_kind::output_end : jinja_token_kind::tag_end, {});
                advance(signed_end ? 3 : 2);
                return finish_tag(signed_end ? c : '\0', closing == '%');
            }
            if (c == '(' || c == '[' || c == '{')
                ++brackets;
            if ((c == ')' || c == ']' || c == '}') && --brackets < 0)
                wrong(std::string("a '") + c + "' without its beginning");
            read_token();
        }
    }

    void read_token() {
        const char c = at(position_);
        if (c == '"' || c == '\'')
            return read_string(c);
        if (is_digit(c))
            return read_number();
        if (begins_name(c)) {
            std::size_t end = position_;
            while (begins_name(at(end)) || is_digit(at(end)))
                ++end;
            emit(jinja_token_kind::name, source_.substr(position_, end - position_));
            return advance(end - position_);
        }
        for (const std::string_view symbol : {"==", "!=", "<=", ">=", "//", "**"})
            if (source_.compare(position_, 2, symbol) == 0) {
                emit(jinja_token_kind::symbol, std::string(symbol));
                return advance(2);
            }
        if (std::string_view("+-*/%~|.,:()[]{}<>=").find(c) == std::string_view::npos)
            wrong(std::string("the character '") + c + "' has no meaning in a tag");
        emit(jinja_token_kind::symbol, std::string(1, c));
        advance(1);
    }

    void read_number() {
        std::size_t end = position_;
        while (is_digit(at(end)) || (at(end) == '_' && is_digit(at(end + 1))))
            ++end;
        bool real = false;
        if (at(end) == '.' && is_digit(at(end + 1))) {
            real = true;
            for (++end; is_digit(at(end));)
                ++end;
        }
        if ((at(end) == 'e' || at(end) == 'E') &&
            (is_digit(at(end + 1)) || ((at(end + 1) == '-' || at(end + 1) == '+') && is_digit(at(end + 2))))) {
            real = true;
            for (end += 2; is_digit(at(end));)
                ++end;
        }
        std::string digits = source_.substr(position_, end - position_);
        digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
        emit(real ? jinja_token_kind::real : jinja_token_kind::integer, digits);
        const char* last = digits.data() + digits.size();
        const auto read = real ? std::from_chars(digits.data(), last, tokens_.back().real)
                               : std::from_chars(digits.data(), last, tokens_.back().integer);
        if (read.ec != std::errc{} || read.ptr != last)
            wrong("the number " + digits.substr(0, 40) + " is out of range");
        advance(end - position_);
    }

    void read_string(char quote) {
        emit(jinja_token_kind::string, {});
        advance(1);
        std::string text;
        for (;;) {
            const std::size_t special = source_.find_first_of(quote == '"' ? "\"\\" : "'\\", position_);
            if (special == std::string::npos || (source_[special] == '\\' && special + 1 == source_.size()))
                wrong("a string without its end");
            text.append(source_, position_, special - position_);
            advance(special - position_ + 1);
            if (source_[special] == quote)
                break;
            read_escape(text);
        }
        tokens_.back().text = std::move(text);
    }

    /// `position_` stands behind the backslash.
    void read_escape(std::string& text) {
        const char c = at(position_);
        constexpr std::string_view letters = "\\'\"abfnrtv";
        constexpr std::string_view meanings = "\\'\"\a\b\f\n\r\t\v";
        if (const std::size_t known = letters.find(c); known != std::string_view::npos) {
            text += meanings[known];
            return advance(1);
        }
        if (c == '\n')
            return advance(1);
        if (c == 'x' || c == 'u' || c == 'U')
            return read_code(text, c == 'x' ? 2 : c == 'u' ? 4 : 8);
        if (c == 'N' || is_digit(c))
            jinja_fail_at(errc::unsupported, line_, std::string("the escape \\") + c + " in a string");
        text += '\\'; // an unknown escape stands for itself
    }

    void read_code(std::string& text, std::size_t digits) {
        const char* first = source_.data() + position_ + 1;
        const char* last = source_.data() + std::min(position_ + 1 + digits, source_.size());
        std::uint32_t code = 0;
        const auto read = std::from_chars(first, last, code, 16);
        if (read.ptr != first + digits || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
            wrong("an escape in a string that names no character");
        append_utf8(text, code);
        advance(1 + digits);
    }

    std::string source_;
    std::size_t position_ = 0;
    std::size_t line_ = 1;
    bool at_line_begin_ = true;
    std::vector<jinja_token> tokens_;
};

} // namespace

std::vector<jinja_token> read_jinja_tokens(std::string_view source) {
    return lexer(source).read();
}

} // namespace moira
