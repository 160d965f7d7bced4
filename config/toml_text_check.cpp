#include "config/toml_text_check.hpp"

#include <algorithm>
#include <cctype>
#include <string>

namespace moira {

namespace {

/// Follows TOML's strings and comments just closely enough to tell them from everything else.
class scanner {
public:
    scanner(std::string_view text, std::string_view name) : text_(text), name_(name) {}

    result<void> run() {
        if (text_.starts_with("\xEF\xBB\xBF")) // a byte order mark
            at_ = 3;
        for (; at_ < text_.size(); ++at_) {
            if (auto allowed = check_character(); !allowed)
                return allowed;
            advance();
        }
        return {};
    }

private:
    enum class place { plain, comment, string };

    tl::unexpected<error> refused(const std::string& found) const {
        return fail(errc::invalid_config,
                    std::string(name_) + ":" + std::to_string(line_) + ": found " + found + ", expected TOML text");
    }

    result<void> check_character() {
        const char c = text_[at_];
        const auto code = static_cast<unsigned char>(c);
        if (c == '\n') {
            ++line_;
            dots_ = 0;
        }
        if (c == '.' && ++dots_ > toml_dots_per_line_max)
            return refused("more than " + std::to_string(toml_dots_per_line_max) + " dots");
        if ((code < 0x20 && c != '\t' && c != '\r' && c != '\n') || code == 0x7F)
            return refused("a control character (code " + std::to_string(code) + ")");
        if (code >= 0x80 && (place_ == place::plain || (place_ == place::string && long_ && quote_ == '"')))
            return refused("a character that is not ASCII outside one-line strings and comments");
        if (c == '[' && place_ == place::plain && only_space_before_ && !header_has_name())
            return refused("\"[\" without the name of a section");
        only_space_before_ = c == '\n' || (only_space_before_ && (c == ' ' || c == '\t'));
        return {};
    }

    /// Whether a key, or at least the end of a header, follows "[" or "[[".
    bool header_has_name() const {
        std::string_view rest = text_.substr(at_ + 1);
        if (rest.starts_with('['))
            rest.remove_prefix(1);
        rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
        constexpr std::string_view others = "_-\"']";
        return rest.empty() || std::isalnum(static_cast<unsigned char>(rest.front())) != 0 ||
               others.find(rest.front()) != std::string_view::npos;
    }

    void advance() {
        const char c = text_[at_];
        if (place_ == place::plain) {
            if (c == '#')
                place_ = place::comment;
            else if (c == '"' || c == '\'')
                open_string(c);
        } else if (place_ == place::comment) {
            if (c == '\n')
                place_ = place::plain;
        } else {
            advance_in_string(c);
        }
    }

    bool three_quotes() const {
        const char triple[] = {quote_, quote_, quote_};
        return text_.substr(at_, 3) == std::string_view(triple, 3);
    }

    void open_string(char quote) {
        place_ = place::string;
        quote_ = quote;
        long_ = three_quotes();
        at_ += long_ ? 2 : 0;
    }

    void advance_in_string(char c) {
        if (c == '\\' && quote_ == '"' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n') {
            escaped_ = !escaped_;
            return;
        }
        const bool escaped = escaped_;
        escaped_ = false;
        if (!long_ && (c == '\n' || (c == quote_ && !escaped))) {
            place_ = place::plain;
        } else if (long_ && c == quote_ && !escaped && three_quotes()) {
            place_ = place::plain;
            at_ += 2;
            // Up to two quotes before the closing three belong to the text.
            for (int extra = 0; extra < 2 && at_ + 1 < text_.size() && text_[at_ + 1] == quote_; ++extra)
                ++at_;
        }
    }

    std::string_view text_, name_;
    std::size_t at_ = 0, line_ = 1, dots_ = 0;
    place place_ = place::plain;
    char quote_ = '"';
    bool only_space_before_ = true; ///< on this line
    bool long_ = false;             ///< between three quotes
    bool escaped_ = false;          ///< after a backslash
};

} // namespace

result<void> check_toml_text(std::string_view text, std::string_view name) {
    return scanner(text, name).run();
}

} // namespace moira
