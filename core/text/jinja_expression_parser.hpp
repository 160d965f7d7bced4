#pragma once

#include "core/text/jinja_lexer.hpp"
#include "core/text/jinja_syntax.hpp"

#include <string_view>
#include <vector>

namespace moira {

/// A place in the tokens of a template.
class jinja_cursor {
public:
    explicit jinja_cursor(std::vector<jinja_token> tokens) : tokens_(std::move(tokens)) {}

    const jinja_token& peek(std::size_t ahead = 0) const {
        return tokens_[position_ + ahead < tokens_.size() ? position_ + ahead : tokens_.size() - 1];
    }
    const jinja_token& take() {
        const jinja_token& token = peek();
        if (position_ + 1 < tokens_.size())
            ++position_;
        return token;
    }
    std::size_t line() const { return peek().line; }
    bool at(jinja_token_kind kind) const { return peek().kind == kind; }
    bool at_symbol(std::string_view symbol) const { return at(jinja_token_kind::symbol) && peek().text == symbol; }
    bool at_name(std::string_view name) const { return at(jinja_token_kind::name) && peek().text == name; }
    bool accept_symbol(std::string_view symbol);
    bool accept_name(std::string_view name);
    void expect_symbol(std::string_view symbol);
    std::string expect_name(const char* what);
    void expect(jinja_token_kind kind, const char* what);
    [[noreturn]] void wrong(const std::string& expected) const;

private:
    std::vector<jinja_token> tokens_; // ends with an `end` token
    std::size_t position_ = 0;
};

/// Reads expressions with Jinja's precedence.
class jinja_expression_parser {
public:
    jinja_expression_parser(jinja_cursor& cursor, std::size_t depth_max) : cursor_(cursor), depth_max_(depth_max) {}

    /// A full expression; `with_condition`: `a if b else c` too.
    jinja_expression_pointer read(bool with_condition = true);

    /// An expression, or several with commas between, which make a list.
    jinja_expression_pointer read_with_commas();

    /// Inside of a condition's branch an unknown filter, test, method or function fails only when it is reached, as in
    /// Jinja: templates use some for tools that most conversations never have.
    void enter_branch() { ++branches_; }
    void leave_branch() { --branches_; }

private:
    using kind = jinja_expression::kind;

    jinja_expression_pointer make(kind what, std::size_t line) const;
    void add(jinja_expression& parent, jinja_expression_pointer operand) const;
    jinja_expression_pointer wrap(kind what, jinja_expression_pointer operand, std::size_t line) const;

    jinja_expression_pointer read_conditional();
    jinja_expression_pointer read_or();
    jinja_expression_pointer read_and();
    jinja_expression_pointer read_not();
    jinja_expression_pointer read_comparison();
    jinja_expression_pointer read_binary(std::size_t level);
    jinja_expression_pointer read_unary(bool with_filters);
    jinja_expression_pointer read_primary();
    jinja_expression_pointer read_named();
    jinja_expression_pointer read_list();
    jinja_expression_pointer read_dict();
    jinja_expression_pointer read_postfix(jinja_expression_pointer operand);
    jinja_expression_pointer read_subscript(jinja_expression_pointer operand);
    jinja_expression_pointer read_attribute(jinja_expression_pointer operand);
    jinja_expression_pointer read_filters(jinja_expression_pointer operand);
    jinja_expression_pointer read_test(jinja_expression_pointer operand);
    void read_arguments(jinja_expression& call);
    void require_known(bool known, std::size_t line, const char* what, const std::string& name) const;

    jinja_cursor& cursor_;
    std::size_t depth_max_;
    std::size_t depth_ = 0;
    std::size_t branches_ = 0;
};

} // namespace moira
