#include "core/text/jinja_evaluator.hpp"

#include "core/text/jinja_operators.hpp"
#include "core/text/jinja_text.hpp"

#include <algorithm>
#include <ctime>

namespace moira {
namespace {

/// What `loop` is inside of a loop.
jinja_value loop_variable(const jinja_items& items, std::size_t index) {
    const auto number = [](std::size_t value) { return jinja_value::of(static_cast<std::int64_t>(value)); };
    jinja_members members = {{"index", number(index + 1)},
                             {"index0", number(index)},
                             {"first", jinja_value::of(index == 0)},
                             {"last", jinja_value::of(index + 1 == items.size())},
                             {"length", number(items.size())},
                             {"revindex", number(items.size() - index)},
                             {"revindex0", number(items.size() - index - 1)}};
    if (index > 0)
        members.emplace_back("previtem", items[index - 1]);
    if (index + 1 < items.size())
        members.emplace_back("nextitem", items[index + 1]);
    return jinja_value::of(std::move(members));
}

/// Positions that a slice takes, as Python's slice.indices.
struct slice_range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t step = 1;
};

std::int64_t slice_bound(const jinja_value& given, std::int64_t length, bool backwards, std::int64_t fallback) {
    if (given.is_undefined() || given.is_none())
        return fallback;
    if (given.integer() == nullptr)
        jinja_fail(errc::invalid_argument, "the bounds of a slice must be whole numbers");
    std::int64_t bound = *given.integer();
    if (bound < 0)
        bound += length;
    return backwards ? std::clamp<std::int64_t>(bound, -1, length - 1) : std::clamp<std::int64_t>(bound, 0, length);
}

slice_range resolve_slice(const jinja_value& begin, const jinja_value& end, const jinja_value& step,
                          std::size_t count) {
    const auto length = static_cast<std::int64_t>(count);
    slice_range range;
    if (!step.is_undefined() && !step.is_none()) {
        if (step.integer() == nullptr || *step.integer() == 0)
            jinja_fail(errc::invalid_argument, "the step of a slice must be a whole number other than 0");
        // No list is that long: a larger step takes the same single element and cannot overflow the position.
        range.step = std::clamp<std::int64_t>(*step.integer(), -(std::int64_t{1} << 40), std::int64_t{1} << 40);
    }
    const bool backwards = range.step < 0;
    range.begin = slice_bound(begin, length, backwards, backwards ? length - 1 : 0);
    range.end = slice_bound(end, length, backwards, backwards ? -1 : length);
    return range;
}

template <class Take>
void for_each_in_slice(const slice_range& range, Take take) {
    for (std::int64_t at = range.begin; range.step > 0 ? at < range.end : at > range.end; at += range.step)
        take(static_cast<std::size_t>(at));
}

/// How an error names an operand.
std::string describe_expression(const jinja_expression& expression) {
    return expression.name.empty() ? "the value" : "'" + expression.name + "'";
}

} // namespace

jinja_evaluator::jinja_evaluator(jinja_members variables, jinja_budget& budget) : budget_(budget) {
    scopes_.push_back(std::move(variables));
    scopes_.emplace_back(); // what the template sets goes here, so that it hides variables of the same name
}

std::string jinja_evaluator::run(const jinja_body& body) {
    execute(body);
    return std::move(output_);
}

void jinja_evaluator::write(std::string_view text) {
    if (text.size() > budget_.output_bytes_max() - output_.size())
        jinja_fail(errc::invalid_argument,
                   "the prompt grows over its limit of " + std::to_string(budget_.output_bytes_max()) + " bytes");
    output_ += text;
}

jinja_evaluator::flow jinja_evaluator::execute(const jinja_body& body) {
    for (const jinja_statement& statement : body)
        if (const flow next = execute(statement); next != flow::on)
            return next;
    return flow::on;
}

jinja_evaluator::flow jinja_evaluator::execute(const jinja_statement& statement) {
    using kind = jinja_statement::kind;
    budget_.step();
    line_ = statement.line;
    switch (statement.what) {
    case kind::text:
        write(statement.text);
        break;
    case kind::output: {
        const jinja_value value = evaluate(*statement.value);
        value.text() != nullptr ? write(*value.text()) : write(to_text(value, budget_));
        break;
    }
    case kind::condition:
        return execute_condition(statement);
    case kind::loop:
        return execute_loop(statement);
    case kind::assignment:
        assign(statement.targets, evaluate(*statement.value));
        break;
    case kind::set_attribute: {
        jinja_value target = variable(statement.targets[0]);
        if (!target.is_namespace())
            jinja_fail(errc::invalid_argument, "only a namespace has attributes that can be set");
        target.set_member(statement.text, evaluate(*statement.value), budget_);
        break;
    }
    case kind::capture:
        capture(statement);
        break;
    case kind::group:
        return execute(statement.body);
    case kind::leave_loop:
        return flow::leave_loop;
    case kind::next_iteration:
        return flow::next_iteration;
    }
    return flow::on;
}

jinja_evaluator::flow jinja_evaluator::execute_condition(const jinja_statement& statement) {
    for (const auto& branch : statement.branches)
        if (is_true(evaluate(*branch.condition)))
            return execute(branch.body);
    return execute(statement.else_body);
}

jinja_evaluator::flow jinja_evaluator::execute_loop(const jinja_statement& statement) {
    jinja_items items = iterate(evaluate(*statement.value), budget_);
    if (statement.filter) {
        jinja_items kept;
        scopes_.emplace_back();
        for (jinja_value& item : items) {
            budget_.step();
            assign(statement.targets, item);
            if (is_true(evaluate(*statement.filter)))
                kept.push_back(std::move(item));
        }
        scopes_.pop_back();
        items = std::move(kept);
    }
    return items.empty() ? execute(statement.else_body) : run_iterations(statement, items);
}

jinja_evaluator::flow jinja_evaluator::run_iterations(const jinja_statement& statement, const jinja_items& items) {
    scopes_.emplace_back();
    for (std::size_t i = 0; i < items.size(); ++i) {
        budget_.step();
        scopes_.back().clear();
        scopes_.back().emplace_back("loop", loop_variable(items, i));
        assign(statement.targets, items[i]);
        if (execute(statement.body) == flow::leave_loop)
            break;
    }
    scopes_.pop_back();
    return flow::on;
}

void jinja_evaluator::assign(const std::vector<std::string>& targets, jinja_value value) {
    if (targets.size() > 1) {
        const jinja_items parts = iterate(value, budget_);
        if (parts.size() != targets.size())
            jinja_fail(errc::invalid_argument,
                       std::to_string(parts.size()) + " values for " + std::to_string(targets.size()) + " variables");
        for (std::size_t i = 0; i < parts.size(); ++i)
            assign({targets[i]}, parts[i]);
        return;
    }
    budget_.touch(scopes_.back().size());
    for (auto& [name, held] : scopes_.back())
        if (name == targets[0]) {
            held = std::move(value);
            return;
        }
    scopes_.back().emplace_back(targets[0], std::move(value));
}

void jinja_evaluator::capture(const jinja_statement& statement) {
    std::string outer = std::move(output_);
    output_.clear();
    scopes_.emplace_back();
    execute(statement.body);
    scopes_.pop_back();
    budget_.make(output_.size());
    jinja_value captured = jinja_value::of(std::move(output_));
    output_ = std::move(outer);
    assign(statement.targets, std::move(captured));
}

jinja_value jinja_evaluator::variable(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
        budget_.touch(scope->size());
        for (const auto& [known, value] : *scope)
            if (known == name)
                return value;
    }
    return is_jinja_function(name) ? jinja_value::of_function(name) : jinja_value();
}

jinja_value jinja_evaluator::evaluate(const jinja_expression& expression) {
    using kind = jinja_expression::kind;
    budget_.step();
    line_ = expression.line;
    switch (expression.what) {
    case kind::literal:
        return expression.literal;
    case kind::variable:
        return variable(expression.name);
    case kind::list:
        return jinja_value::of(arguments(expression, 0).positional);
    case kind::dict:
        return make_dict(expression);
    case kind::attribute:
        return attribute(expression);
    case kind::subscript:
        return subscript(expression);
    case kind::slice:
        return slice(expression);
    case kind::call:
    case kind::method:
    case kind::filter:
    case kind::test:
        return call(expression);
    case kind::negate:
        return negate(evaluate(*expression.operands[0]));
    case kind::plus:
        return negate(negate(evaluate(*expression.operands[0])));
    case kind::invert:
        return jinja_value::of(!is_true(evaluate(*expression.operands[0])));
    case kind::conjunction:
        return logical(expression, false);
    case kind::disjunction:
        return logical(expression, true);
    case kind::binary:
        return binary(expression);
    case kind::comparison:
        return comparison(expression);
    case kind::conditional:
        if (is_true(evaluate(*expression.operands[1])))
            return evaluate(*expression.operands[0]);
        return expression.operands[2] ? evaluate(*expression.operands[2]) : jinja_value();
    }
    return {};
}

jinja_value jinja_evaluator::make_dict(const jinja_expression& expression) {
    jinja_members members;
    for (std::size_t i = 0; i + 1 < expression.operands.size(); i += 2) {
        const jinja_value key = evaluate(*expression.operands[i]);
        if (key.text() == nullptr)
            jinja_fail(errc::unsupported, "a dict key that is not a string");
        budget_.make(sizeof(jinja_members::value_type) + key.text()->size());
        budget_.touch(members.size());
        const auto known = std::find_if(members.begin(), members.end(),
                                        [&](const auto& member) { return member.first == *key.text(); });
        jinja_value value = evaluate(*expression.operands[i + 1]);
        if (known != members.end())
            known->second = std::move(value);
        else
            members.emplace_back(*key.text(), std::move(value));
    }
    return jinja_value::of(std::move(members));
}

jinja_value jinja_evaluator::attribute(const jinja_expression& expression) {
    const jinja_value value = evaluate(*expression.operands[0]);
    if (value.is_undefined())
        jinja_fail(errc::invalid_argument,
                   describe_expression(*expression.operands[0]) + " is undefined, it has no '" + expression.name + "'");
    return member_of(value, expression.name, budget_);
}

jinja_value jinja_evaluator::subscript(const jinja_expression& expression) {
    const jinja_value value = evaluate(*expression.operands[0]);
    const jinja_value index = evaluate(*expression.operands[1]);
    if (value.is_undefined())
        jinja_fail(errc::invalid_argument, describe_expression(*expression.operands[0]) + " is undefined");
    if (index.text() != nullptr)
        return member_of(value, *index.text(), budget_);
    if (index.integer() == nullptr)
        return {};
    std::int64_t at = *index.integer();
    if (const jinja_items* items = value.items()) {
        at += at < 0 ? static_cast<std::int64_t>(items->size()) : 0;
        return at >= 0 && static_cast<std::size_t>(at) < items->size() ? (*items)[static_cast<std::size_t>(at)]
                                                                       : jinja_value();
    }
    if (const std::string* text = value.text()) {
        budget_.touch(2 * text->size());
        const std::size_t count = count_characters(*text);
        at += at < 0 ? static_cast<std::int64_t>(count) : 0;
        if (at >= 0 && static_cast<std::size_t>(at) < count)
            return jinja_value::of(
                std::string(characters(*text, static_cast<std::size_t>(at), static_cast<std::size_t>(at) + 1)));
    }
    return {};
}

jinja_value jinja_evaluator::slice(const jinja_expression& expression) {
    const jinja_value value = evaluate(*expression.operands[0]);
    jinja_value bounds[3];
    for (std::size_t i = 0; i < 3; ++i)
        if (expression.operands[i + 1])
            bounds[i] = evaluate(*expression.operands[i + 1]);
    if (const jinja_items* items = value.items()) {
        jinja_items made;
        for_each_in_slice(resolve_slice(bounds[0], bounds[1], bounds[2], items->size()), [&](std::size_t at) {
            budget_.make(sizeof(jinja_value));
            made.push_back((*items)[at]);
        });
        return jinja_value::of(std::move(made));
    }
    const std::string* text = value.text();
    if (text == nullptr)
        jinja_fail(errc::invalid_argument, std::string(value.kind_name()) + " cannot be sliced");
    budget_.make(text->size());
    const slice_range range = resolve_slice(bounds[0], bounds[1], bounds[2], count_characters(*text));
    if (range.step == 1)
        return jinja_value::of(std::string(characters(*text, static_cast<std::size_t>(range.begin),
                                                      static_cast<std::size_t>(std::max(range.begin, range.end)))));
    const jinja_items letters = iterate(value, budget_);
    std::string made;
    for_each_in_slice(range, [&](std::size_t at) { made += *letters[at].text(); });
    return jinja_value::of(std::move(made));
}

jinja_arguments jinja_evaluator::arguments(const jinja_expression& expression, std::size_t first) {
    jinja_arguments given;
    for (std::size_t i = first; i < expression.operands.size(); ++i) {
        budget_.make(sizeof(jinja_value));
        given.positional.push_back(evaluate(*expression.operands[i]));
    }
    for (const auto& [name, value] : expression.named)
        given.named.emplace_back(name, evaluate(*value));
    return given;
}

jinja_value jinja_evaluator::call(const jinja_expression& expression) {
    using kind = jinja_expression::kind;
    if (expression.what == kind::call) {
        const jinja_arguments given = arguments(expression, 0);
        if (variable(expression.name).callable() == nullptr)
            jinja_fail(errc::invalid_argument, "'" + expression.name + "' is not a function");
        line_ = expression.line;
        return expression.name == "strftime_now" ? strftime_now(given)
                                                 : call_jinja_function(expression.name, given, budget_);
    }
    const jinja_value self = evaluate(*expression.operands[0]);
    const jinja_arguments given = arguments(expression, 1);
    line_ = expression.line;
    if (expression.what == kind::filter)
        return apply_jinja_filter(expression.name, self, given, budget_);
    if (expression.what == kind::test)
        return jinja_value::of(apply_jinja_test(expression.name, self, given, budget_) != expression.negated);
    return call_jinja_method(expression.name, self, given, budget_);
}

jinja_value jinja_evaluator::strftime_now(const jinja_arguments& given) {
    const jinja_value format = given.get(0, "format");
    if (format.text() == nullptr)
        jinja_fail(errc::invalid_argument, "'strftime_now' takes a string");
    std::tm moment{};
    const jinja_value now = variable("now"); // lets a caller fix the time, as "2026-01-31T12:34:56"
    if (now.text() != nullptr) {
        if (strptime(now.text()->c_str(), "%Y-%m-%dT%H:%M:%S", &moment) == nullptr)
            jinja_fail(errc::invalid_argument, "'now' must look like 2026-01-31T12:34:56");
    } else {
        const std::time_t seconds = std::time(nullptr);
        localtime_r(&seconds, &moment);
    }
    char text[256];
    return jinja_value::of(std::string(text, std::strftime(text, sizeof text, format.text()->c_str(), &moment)));
}

jinja_value jinja_evaluator::negate(const jinja_value& value) {
    if (value.real() != nullptr)
        return jinja_value::of(-*value.real());
    return apply_jinja_operator(jinja_operator::subtract, jinja_value::of(std::int64_t{0}), value, budget_);
}

/// `and` ends at the first false operand, `or` at the first true one; the operand itself is the value.
jinja_value jinja_evaluator::logical(const jinja_expression& expression, bool ends_with) {
    jinja_value value;
    for (const auto& operand : expression.operands) {
        value = evaluate(*operand);
        if (is_true(value) == ends_with)
            break;
    }
    return value;
}

jinja_value jinja_evaluator::binary(const jinja_expression& expression) {
    jinja_value value = evaluate(*expression.operands[0]);
    for (std::size_t i = 0; i < expression.operators.size(); ++i) {
        const jinja_value right = evaluate(*expression.operands[i + 1]);
        line_ = expression.line;
        value = apply_jinja_operator(expression.operators[i], value, right, budget_);
    }
    return value;
}

jinja_value jinja_evaluator::comparison(const jinja_expression& expression) {
    jinja_value left = evaluate(*expression.operands[0]);
    for (std::size_t i = 0; i < expression.operators.size(); ++i) {
        jinja_value right = evaluate(*expression.operands[i + 1]);
        line_ = expression.line;
        if (!holds_jinja_operator(expression.operators[i], left, right, budget_))
            return jinja_value::of(false);
        left = std::move(right);
    }
    return jinja_value::of(true);
}

} // namespace moira
