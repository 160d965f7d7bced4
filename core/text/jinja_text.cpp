#include "core/text/jinja_text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace moira {
namespace {

bool is_continuation(char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

std::size_t character_end(std::string_view text, std::size_t begin) {
    ++begin;
    while (begin < text.size() && is_continuation(text[begin]))
        ++begin;
    return begin;
}

std::size_t last_character_begin(std::string_view text) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && is_continuation(text[begin]))
        --begin;
    return begin;
}

/// The white space of Python's str.strip, spelled in UTF-8.
bool is_space(std::string_view character) {
    if (character.size() == 1) {
        const char c = character[0];
        return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1C' && c <= '\x1F');
    }
    constexpr std::string_view wide[] = {"\u0085", "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
                                         "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200A",
                                         "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"};
    return std::find(std::begin(wide), std::end(wide), character) != std::end(wide);
}

/// Shortest digits that read back as the same number, laid out like Python's repr: an exponent below 1e-4 and from
/// 1e16 on, otherwise always with a point.
std::string real_text(double value) {
    if (std::isnan(value))
        return "nan";
    if (std::isinf(value))
        return value < 0 ? "-inf" : "inf";
    const double size = std::fabs(value);
    const bool exponent = size != 0 && (size < 1e-4 || size >= 1e16);
    char buffer[64];
    const auto format = exponent ? std::chars_format::scientific : std::chars_format::fixed;
    const auto written = std::to_chars(buffer, buffer + sizeof buffer, value, format);
    std::string text(buffer, written.ptr);
    if (!exponent && text.find('.') == std::string::npos)
        text += ".0";
    return text;
}

void append_hex(std::string& out, unsigned char byte, const char* prefix) {
    constexpr const char* digits = "0123456789abcdef";
    out += prefix;
    out += digits[byte >> 4];
    out += digits[byte & 15];
}

/// A string as Python's repr writes it.
void append_quoted(std::string& out, const std::string& text) {
    const bool has_single = text.find('\'') != std::string::npos;
    const char quote = has_single && text.find('"') == std::string::npos ? '"' : '\'';
    out += quote;
    for (const char c : text) {
        if (c == quote || c == '\\')
            (out += '\\') += c;
        else if (c == '\n')
            out += "\\n";
        else if (c == '\r')
            out += "\\r";
        else if (c == '\t')
            out += "\\t";
        else if (static_cast<unsigned char>(c) < 0x20 || c == '\x7F')
            append_hex(out, static_cast<unsigned char>(c), "\\x");
        else
            out += c;
    }
    out += quote;
}

void append_json_string(std::string& out, const std::string& text) {
    out += '"';
    for (const char c : text) {
        switch (c) {
        case '"':
            out += "\\\"";
            break;
        case '\\':
            out += "\\\\";
            break;
        case '\n':
            out += "\\n";
            break;
        case '\r':
            out += "\\r";
            break;
        case '\t':
            out += "\\t";
            break;
        case '\b':
            out += "\\b";
            break;
        case '\f':
            out += "\\f";
            break;
        default:
            if (static_cast<unsigned char>(c) < 0x20)
                append_hex(out, static_cast<unsigned char>(c), "\\u00");
            else
                out += c;
        }
    }
    out += '"';
}

/// Writes nested values; both forms share the walk and differ in spelling.
class value_writer {
public:
    value_writer(bool json, std::optional<std::int64_t> indent, jinja_budget& budget)
        : json_(json), indent_(indent), budget_(budget) {}

    void write(const jinja_value& value, std::size_t level) {
        budget_.step(); // a value that holds itself many times over is written as often
        const std::size_t before = out_.size();
        if (const auto* text = value.text()) {
            budget_.make(text->size());
            json_ ? append_json_string(out_, *text) : append_quoted(out_, *text);
        } else if (const auto* items = value.items()) {
            write_items(*items, level);
        } else if (const auto* members = value.members()) {
            write_members(*members, level);
        } else {
            out_ += scalar(value);
        }
        if (out_.size() - before < 64) // longer ones are charged above, or piece by piece
            budget_.make(out_.size() - before);
        if (out_.size() > budget_.output_bytes_max())
            jinja_fail(errc::invalid_argument, "the chat template makes a text over its limit of bytes");
    }

    std::string take() { return std::move(out_); }

private:
    std::string scalar(const jinja_value& value) const {
        if (const auto* boolean = value.boolean())
            return json_ ? (*boolean ? "true" : "false") : (*boolean ? "True" : "False");
        if (const auto* integer = value.integer())
            return std::to_string(*integer);
        if (const auto* real = value.real()) {
            if (json_ && std::isnan(*real))
                return "NaN";
            if (json_ && std::isinf(*real))
                return *real < 0 ? "-Infinity" : "Infinity";
            return real_text(*real);
        }
        if (value.is_none())
            return json_ ? "null" : "None";
        if (json_)
            jinja_fail(errc::invalid_argument, std::string(value.kind_name()) + " cannot be written as JSON");
        return value.is_undefined() ? "Undefined" : std::string(1, '<').append(value.kind_name()).append(">");
    }

    void separate(bool first, std::size_t level) {
        if (!first)
            out_ += indent_ ? "," : ", ";
        new_line(level);
    }

    void new_line(std::size_t level) {
        if (!indent_)
            return;
        const std::size_t spaces = level * static_cast<std::size_t>(*indent_);
        budget_.make(spaces + 1);
        out_ += '\n';
        out_.append(spaces, ' ');
    }

    void write_items(const jinja_items& items, std::size_t level) {
        out_ += '[';
        bool first = true;
        for (const jinja_value& item : items) {
            separate(first, level + 1);
            write(item, level + 1);
            first = false;
        }
        if (!items.empty())
            new_line(level);
        out_ += ']';
    }

    void write_members(const jinja_members& members, std::size_t level) {
        out_ += '{';
        bool first = true;
        for (const auto& [name, value] : members) {
            separate(first, level + 1);
            budget_.make(name.size());
            json_ ? append_json_string(out_, name) : append_quoted(out_, name);
            out_ += ": ";
            write(value, level + 1);
            first = false;
        }
        if (!members.empty())
            new_line(level);
        out_ += '}';
    }

    bool json_;
    std::optional<std::int64_t> indent_;
    jinja_budget& budget_;
    std::string out_;
};

} // namespace

std::string to_text(const jinja_value& value, jinja_budget& budget) {
    if (value.is_undefined())
        return {};
    if (const auto* text = value.text()) {
        budget.make(text->size());
        return *text;
    }
    value_writer writer(false, std::nullopt, budget);
    writer.write(value, 0);
    return writer.take();
}

std::string to_json_text(const jinja_value& value, std::optional<std::int64_t> indent, jinja_budget& budget) {
    constexpr std::int64_t indent_max = 64; // spaces per level
    if (indent && (*indent < 0 || *indent > indent_max))
        jinja_fail(errc::invalid_argument, "tojson: an indent outside 0 .. 64");
    value_writer writer(true, indent, budget);
    writer.write(value, 0);
    return writer.take();
}

std::size_t count_characters(std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

std::string_view characters(std::string_view text, std::size_t begin, std::size_t end) {
    std::size_t position = 0;
    std::size_t index = 0;
    for (; index < begin && position < text.size(); ++index)
        position = character_end(text, position);
    const std::size_t first = position;
    for (; index < end && position < text.size(); ++index)
        position = character_end(text, position);
    return text.substr(first, position - first);
}

std::string_view strip(std::string_view text, strip_side side, std::optional<std::string_view> set) {
    const auto removable = [&](std::string_view character) {
        return set ? set->find(character) != std::string_view::npos : is_space(character);
    };
    while (side != strip_side::right && !text.empty()) {
        const std::size_t end = character_end(text, 0);
        if (!removable(text.substr(0, end)))
            break;
        text.remove_prefix(end);
    }
    while (side != strip_side::left && !text.empty()) {
        const std::size_t begin = last_character_begin(text);
        if (!removable(text.substr(begin)))
            break;
        text.remove_suffix(text.size() - begin);
    }
    return text;
}

std::vector<std::string_view> split_text(std::string_view text, std::optional<std::string_view> separator,
                                         std::int64_t splits_max) {
    std::vector<std::string_view> parts;
    const auto may_split = [&] { return splits_max < 0 || parts.size() < static_cast<std::size_t>(splits_max); };
    if (separator) {
        for (std::size_t at = text.find(*separator); at != std::string_view::npos && may_split();
             at = text.find(*separator)) {
            parts.push_back(text.substr(0, at));
            text.remove_prefix(at + separator->size());
        }
        parts.push_back(text);
        return parts;
    }
    for (text = strip(text, strip_side::left); !text.empty(); text = strip(text, strip_side::left)) {
        if (!may_split()) {
            parts.push_back(strip(text, strip_side::right));
            break;
        }
        std::size_t end = 0;
        for (std::size_t next = 0; end < text.size(); end = next) {
            next = character_end(text, end);
            if (is_space(text.substr(end, next - end)))
                break;
        }
        parts.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return parts;
}

std::string to_upper(std::string_view text) {
    std::string changed(text);
    for (char& c : changed)
        c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    return changed;
}

std::string to_lower(std::string_view text) {
    std::string changed(text);
    for (char& c : changed)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return changed;
}

} // namespace moira
