#pragma once

#include "core/text/jinja_builtins.hpp"
#include "core/text/jinja_syntax.hpp"

#include <string>

namespace moira {

/// Runs a parsed template once. Throws jinja_failure.
class jinja_evaluator {
public:
    jinja_evaluator(jinja_members variables, jinja_budget& budget);

    std::string run(const jinja_body& body);

    /// The line that was being evaluated when a failure without a line was thrown.
    std::size_t line() const { return line_; }

private:
    enum class flow { on, leave_loop, next_iteration };

    flow execute(const jinja_body& body);
    flow execute(const jinja_statement& statement);
    flow execute_condition(const jinja_statement& statement);
    flow execute_loop(const jinja_statement& statement);
    flow run_iterations(const jinja_statement& statement, const jinja_items& items);
    void assign(const std::vector<std::string>& targets, jinja_value value);
    void capture(const jinja_statement& statement);
    void write(std::string_view text);

    jinja_value evaluate(const jinja_expression& expression);
    jinja_value variable(const std::string& name);
    jinja_value make_dict(const jinja_expression& expression);
    jinja_value attribute(const jinja_expression& expression);
    jinja_value subscript(const jinja_expression& expression);
    jinja_value slice(const jinja_expression& expression);
    jinja_value call(const jinja_expression& expression);
    jinja_value negate(const jinja_value& value);
    jinja_value logical(const jinja_expression& expression, bool ends_with);
    jinja_value binary(const jinja_expression& expression);
    jinja_value comparison(const jinja_expression& expression);
    jinja_arguments arguments(const jinja_expression& expression, std::size_t first);
    jinja_value strftime_now(const jinja_arguments& given);

    jinja_budget& budget_;
    std::vector<jinja_members> scopes_; // innermost last
    std::string output_;
    std::size_t line_ = 1;
};

} // namespace moira
