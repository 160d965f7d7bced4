#include "core/text/jinja_expression_parser.hpp"

#include "core/text/jinja_builtins.hpp"

#include <algorithm>
#include <optional>

namespace moira {

bool jinja_cursor::accept_symbol(std::string_view symbol) {
    if (!at_symbol(symbol))
        return false;
    take();
    return true;
}

bool jinja_cursor::accept_name(std::string_view name) {
    if (!at_name(name))
        return false;
    take();
    return true;
}

void jinja_cursor::expect_symbol(std::string_view symbol) {
    if (!accept_symbol(symbol))
        wrong("'" + std::string(symbol) + "'");
}

std::string jinja_cursor::expect_name(const char* what) {
    if (!at(jinja_token_kind::name))
        wrong(what);
    return take().text;
}

void jinja_cursor::expect(jinja_token_kind kind, const char* what) {
    if (!at(kind))
        wrong(what);
    take();
}

void jinja_cursor::wrong(const std::string& expected) const {
    const jinja_token& token = peek();
    const bool spelled = !token.text.empty() && token.kind != jinja_token_kind::text;
    jinja_fail_at(errc::corrupt_file, token.line,
                  "expected " + expected + ", found " +
                      (spelled ? "'" + token.text.substr(0, 80) + "'" : std::string("the end of a tag or text")));
}

namespace {

/// Counts how deep the parser's own recursion is.
class depth_guard {
public:
    depth_guard(std::size_t& depth, std::size_t depth_max, std::size_t line) : depth_(depth) {
        if (depth_ >= depth_max)
            jinja_fail_at(errc::corrupt_file, line,
                          "an expression nested deeper than " + std::to_string(depth_max) + " levels");
        ++depth_;
    }
    ~depth_guard() { --depth_; }
    depth_guard(const depth_guard&) = delete;
    depth_guard& operator=(const depth_guard&) = delete;

private:
    std::size_t& depth_;
};

/// Levels of binary operators, loosest first: Jinja puts ~ between + and *.
constexpr std::size_t binary_levels = 3;

std::optional<jinja_operator> binary_operator(const jinja_token& token, std::size_t level) {
    struct row {
        std::string_view symbol;
        std::size_t level;
        jinja_operator what;
    };
    constexpr row rows[] = {{"+", 0, jinja_operator::add},    {"-", 0, jinja_operator::subtract},
                            {"~", 1, jinja_operator::join},   {"*", 2, jinja_operator::multiply},
                            {"/", 2, jinja_operator::divide}, {"//", 2, jinja_operator::floor_divide},
                            {"%", 2, jinja_operator::modulo}};
    if (token.kind == jinja_token_kind::symbol)
        for (const row& known : rows)
            if (known.level == level && known.symbol == token.text)
                return known.what;
    return std::nullopt;
}

std::optional<jinja_operator> comparison_operator(const jinja_token& token) {
    struct row {
        std::string_view symbol;
        jinja_operator what;
    };
    constexpr row rows[] = {{"==", jinja_operator::equal},  {"!=", jinja_operator::not_equal},
                            {"<", jinja_operator::less},    {"<=", jinja_operator::less_equal},
                            {">", jinja_operator::greater}, {">=", jinja_operator::greater_equal}};
    if (token.kind == jinja_token_kind::symbol)
        for (const row& known : rows)
            if (known.symbol == token.text)
                return known.what;
    return std::nullopt;
}

} // namespace

jinja_expression_pointer jinja_expression_parser::make(kind what, std::size_t line) const {
    auto made = std::make_unique<jinja_expression>();
    made->what = what;
    made->line = line;
    return made;
}

void jinja_expression_parser::add(jinja_expression& parent, jinja_expression_pointer operand) const {
    // Chains such as a.b.c|d grow the tree without growing the parser's stack: they get room of their own, since
    // evaluation and destruction recurse over them.
    constexpr std::size_t chain_factor = 4;
    if (operand) {
        parent.depth = std::max(parent.depth, operand->depth + 1);
        if (parent.depth > chain_factor * depth_max_)
            jinja_fail_at(errc::corrupt_file, parent.line,
                          "an expression nested deeper than " + std::to_string(chain_factor * depth_max_) + " levels");
    }
    parent.operands.push_back(std::move(operand));
}

jinja_expression_pointer jinja_expression_parser::wrap(kind what, jinja_expression_pointer operand,
                                                       std::size_t line) const {
    auto made = make(what, line);
    add(*made, std::move(operand));
    return made;
}

void jinja_expression_parser::require_known(bool known, std::size_t line, const char* what,
                                            const std::string& name) const {
    if (!known && branches_ == 0)
        jinja_fail_at(errc::unsupported, line, std::string("the ") + what + " '" + name + "'");
}

jinja_expression_pointer jinja_expression_parser::read(bool with_condition) {
    return with_condition ? read_conditional() : read_or();
}

jinja_expression_pointer jinja_expression_parser::read_with_commas() {
    auto first = read();
    if (!cursor_.at_symbol(","))
        return first;
    auto list = wrap(kind::list, std::move(first), cursor_.line());
    while (cursor_.accept_symbol(",")) {
        if (cursor_.at(jinja_token_kind::tag_end) || cursor_.at(jinja_token_kind::output_end) || cursor_.at_symbol(")"))
            break;
        add(*list, read());
    }
    return list;
}

jinja_expression_pointer jinja_expression_parser::read_conditional() {
    auto value = read_or();
    while (cursor_.at_name("if")) {
        auto made = make(kind::conditional, cursor_.take().line);
        add(*made, std::move(value));
        add(*made, read_or());
        if (cursor_.accept_name("else")) {
            const depth_guard guard(depth_, depth_max_, cursor_.line());
            add(*made, read_conditional());
        } else {
            add(*made, nullptr);
        }
        value = std::move(made);
    }
    return value;
}

jinja_expression_pointer jinja_expression_parser::read_or() {
    const depth_guard guard(depth_, depth_max_, cursor_.line());
    auto value = read_and();
    if (!cursor_.at_name("or"))
        return value;
    auto made = wrap(kind::disjunction, std::move(value), cursor_.line());
    while (cursor_.accept_name("or"))
        add(*made, read_and());
    return made;
}

jinja_expression_pointer jinja_expression_parser::read_and() {
    auto value = read_not();
    if (!cursor_.at_name("and"))
        return value;
    auto made = wrap(kind::conjunction, std::move(value), cursor_.line());
    while (cursor_.accept_name("and"))
        add(*made, read_not());
    return made;
}

jinja_expression_pointer jinja_expression_parser::read_not() {
    if (!cursor_.at_name("not"))
        return read_comparison();
    const depth_guard guard(depth_, depth_max_, cursor_.line());
    const std::size_t line = cursor_.take().line;
    return wrap(kind::invert, read_not(), line);
}

jinja_expression_pointer jinja_expression_parser::read_comparison() {
    auto value = read_binary(0);
    jinja_expression_pointer made;
    for (;;) {
        std::optional<jinja_operator> what = comparison_operator(cursor_.peek());
        if (what) {
            cursor_.take();
        } else if (cursor_.accept_name("in")) {
            what = jinja_operator::in;
        } else if (cursor_.at_name("not") && cursor_.peek(1).kind == jinja_token_kind::name &&
                   cursor_.peek(1).text == "in") {
            cursor_.take();
            cursor_.take();
            what = jinja_operator::not_in;
        } else {
            return made ? std::move(made) : std::move(value);
        }
        if (!made)
            made = wrap(kind::comparison, std::move(value), cursor_.line());
        made->operators.push_back(*what);
        add(*made, read_binary(0));
    }
}

jinja_expression_pointer jinja_expression_parser::read_binary(std::size_t level) {
    if (level == binary_levels)
        return read_unary(true);
    auto value = read_binary(level + 1);
    jinja_expression_pointer made;
    while (const auto what = binary_operator(cursor_.peek(), level)) {
        if (!made)
            made = wrap(kind::binary, std::move(value), cursor_.line());
        cursor_.take();
        made->operators.push_back(*what);
        add(*made, read_binary(level + 1));
    }
    return made ? std::move(made) : std::move(value);
}

jinja_expression_pointer jinja_expression_parser::read_unary(bool with_filters) {
    jinja_expression_pointer value;
    if (cursor_.at_symbol("-") || cursor_.at_symbol("+")) {
        const depth_guard guard(depth_, depth_max_, cursor_.line());
        const kind what = cursor_.at_symbol("-") ? kind::negate : kind::plus;
        const std::size_t line = cursor_.take().line;
        value = wrap(what, read_unary(false), line);
    } else {
        value = read_primary();
    }
    value = read_postfix(std::move(value));
    if (cursor_.at_symbol("**"))
        jinja_fail_at(errc::unsupported, cursor_.line(), "the operator **");
    return with_filters ? read_filters(std::move(value)) : std::move(value);
}

jinja_expression_pointer jinja_expression_parser::read_primary() {
    const jinja_token& token = cursor_.peek();
    if (token.kind == jinja_token_kind::name)
        return read_named();
    auto literal = make(kind::literal, token.line);
    if (token.kind == jinja_token_kind::string) {
        std::string text;
        while (cursor_.at(jinja_token_kind::string))
            text += cursor_.take().text;
        literal->literal = jinja_value::of(std::move(text));
        return literal;
    }
    if (token.kind == jinja_token_kind::integer || token.kind == jinja_token_kind::real) {
        literal->literal =
            token.kind == jinja_token_kind::integer ? jinja_value::of(token.integer) : jinja_value::of(token.real);
        cursor_.take();
        return literal;
    }
    if (cursor_.at_symbol("["))
        return read_list();
    if (cursor_.at_symbol("{"))
        return read_dict();
    if (!cursor_.accept_symbol("("))
        cursor_.wrong("an expression");
    if (cursor_.accept_symbol(")"))
        return make(kind::list, token.line);
    auto inner = read_with_commas();
    cursor_.expect_symbol(")");
    return inner;
}

jinja_expression_pointer jinja_expression_parser::read_named() {
    const jinja_token token = cursor_.take();
    const auto constant = [&](jinja_value value) {
        auto literal = make(kind::literal, token.line);
        literal->literal = std::move(value);
        return literal;
    };
    if (token.text == "true" || token.text == "True")
        return constant(jinja_value::of(true));
    if (token.text == "false" || token.text == "False")
        return constant(jinja_value::of(false));
    if (token.text == "none" || token.text == "None")
        return constant(jinja_value::of_none());
    auto made = make(kind::variable, token.line);
    made->name = token.text;
    if (!cursor_.at_symbol("("))
        return made;
    require_known(is_jinja_function(token.text), token.line, "function", token.text);
    made->what = kind::call;
    read_arguments(*made);
    return made;
}

jinja_expression_pointer jinja_expression_parser::read_list() {
    auto list = make(kind::list, cursor_.take().line);
    while (!cursor_.accept_symbol("]")) {
        add(*list, read());
        if (!cursor_.at_symbol("]"))
            cursor_.expect_symbol(",");
    }
    return list;
}

jinja_expression_pointer jinja_expression_parser::read_dict() {
    auto dict = make(kind::dict, cursor_.take().line);
    while (!cursor_.accept_symbol("}")) {
        add(*dict, read());
        cursor_.expect_symbol(":");
        add(*dict, read());
        if (!cursor_.at_symbol("}"))
            cursor_.expect_symbol(",");
    }
    return dict;
}

jinja_expression_pointer jinja_expression_parser::read_postfix(jinja_expression_pointer operand) {
    for (;;) {
        if (cursor_.at_symbol("."))
            operand = read_attribute(std::move(operand));
        else if (cursor_.at_symbol("["))
            operand = read_subscript(std::move(operand));
        else if (cursor_.at_symbol("("))
            jinja_fail_at(errc::unsupported, cursor_.line(), "a call of something that is not a name");
        else
            return operand;
    }
}

jinja_expression_pointer jinja_expression_parser::read_attribute(jinja_expression_pointer operand) {
    const std::size_t line = cursor_.take().line;
    if (cursor_.at(jinja_token_kind::integer)) { // items.0 means items[0]
        auto made = wrap(kind::subscript, std::move(operand), line);
        add(*made, read_primary());
        return made;
    }
    auto made = wrap(kind::attribute, std::move(operand), line);
    made->name = cursor_.expect_name("the name of an attribute");
    if (!cursor_.at_symbol("("))
        return made;
    require_known(is_jinja_method(made->name), line, "method", made->name);
    made->what = kind::method;
    read_arguments(*made);
    return made;
}

jinja_expression_pointer jinja_expression_parser::read_subscript(jinja_expression_pointer operand) {
    const std::size_t line = cursor_.take().line;
    auto made = wrap(kind::subscript, std::move(operand), line);
    const auto bound = [&] {
        return cursor_.at_symbol(":") || cursor_.at_symbol("]") ? jinja_expression_pointer() : read();
    };
    auto first = bound();
    if (cursor_.at_symbol("]")) {
        if (!first)
            cursor_.wrong("an index");
        cursor_.take();
        add(*made, std::move(first));
        return made;
    }
    made->what = kind::slice;
    add(*made, std::move(first));
    cursor_.expect_symbol(":");
    add(*made, bound());
    add(*made, cursor_.accept_symbol(":") ? bound() : nullptr);
    cursor_.expect_symbol("]");
    return made;
}

jinja_expression_pointer jinja_expression_parser::read_filters(jinja_expression_pointer operand) {
    for (;;) {
        if (cursor_.accept_symbol("|")) {
            const std::size_t line = cursor_.line();
            operand = wrap(kind::filter, std::move(operand), line);
            operand->name = cursor_.expect_name("the name of a filter");
            require_known(is_jinja_filter(operand->name), line, "filter", operand->name);
            if (cursor_.at_symbol("("))
                read_arguments(*operand);
        } else if (cursor_.accept_name("is")) {
            operand = read_test(std::move(operand));
        } else {
            return operand;
        }
    }
}

jinja_expression_pointer jinja_expression_parser::read_test(jinja_expression_pointer operand) {
    const std::size_t line = cursor_.line();
    auto made = wrap(kind::test, std::move(operand), line);
    made->negated = cursor_.accept_name("not");
    made->name = cursor_.expect_name("the name of a test");
    require_known(is_jinja_test(made->name), line, "test", made->name);
    if (cursor_.at_symbol("(")) {
        read_arguments(*made);
        return made;
    }
    // `is divisibleby 3` and `is equalto 'x'` need no brackets.
    const jinja_token& next = cursor_.peek();
    const bool ends = next.kind == jinja_token_kind::name &&
                      (next.text == "else" || next.text == "or" || next.text == "and" || next.text == "if" ||
                       next.text == "is" || next.text == "in" || next.text == "not");
    if (next.kind == jinja_token_kind::string || next.kind == jinja_token_kind::integer ||
        next.kind == jinja_token_kind::real || (next.kind == jinja_token_kind::name && !ends))
        add(*made, read_postfix(read_primary()));
    return made;
}

void jinja_expression_parser::read_arguments(jinja_expression& call) {
    cursor_.expect_symbol("(");
    while (!cursor_.accept_symbol(")")) {
        if (cursor_.at_symbol("*") || cursor_.at_symbol("**"))
            jinja_fail_at(errc::unsupported, cursor_.line(), "arguments that are unpacked with *");
        const bool is_named = cursor_.at(jinja_token_kind::name) && cursor_.peek(1).kind == jinja_token_kind::symbol &&
                              cursor_.peek(1).text == "=";
        if (is_named) {
            std::string name = cursor_.take().text;
            cursor_.take();
            // Through `add` for the bound on depth, then to its own place.
            add(call, read());
            call.named.emplace_back(std::move(name), std::move(call.operands.back()));
            call.operands.pop_back();
        } else {
            if (!call.named.empty())
                cursor_.wrong("a named argument");
            add(call, read());
        }
        if (!cursor_.at_symbol(")"))
            cursor_.expect_symbol(",");
    }
}

} // namespace moira
