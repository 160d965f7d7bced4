#include "core/text/jinja_operators.hpp"

#include "core/text/jinja_text.hpp"

#include <algorithm>
#include <cmath>

namespace moira {
namespace {

[[noreturn]] void no_operation(const char* symbol, const jinja_value& left, const jinja_value& right) {
    jinja_fail(errc::invalid_argument,
               std::string(left.kind_name()) + " " + symbol + " " + std::string(right.kind_name()) + " has no meaning");
}

[[noreturn]] void too_large() {
    jinja_fail(errc::invalid_argument, "a whole number grows beyond 63 bits");
}

jinja_value join_texts(const std::string& left, const std::string& right, jinja_budget& budget) {
    budget.make(left.size() + right.size());
    std::string made;
    made.reserve(left.size() + right.size());
    made.append(left).append(right);
    return jinja_value::of(std::move(made));
}

jinja_value add(const jinja_value& left, const jinja_value& right, jinja_budget& budget) {
    if (left.text() != nullptr && right.text() != nullptr)
        return join_texts(*left.text(), *right.text(), budget);
    if (left.items() != nullptr && right.items() != nullptr) {
        budget.make((left.items()->size() + right.items()->size()) * sizeof(jinja_value));
        jinja_items items = *left.items();
        items.insert(items.end(), right.items()->begin(), right.items()->end());
        return jinja_value::of(std::move(items));
    }
    const jinja_number x = as_number(left);
    const jinja_number y = as_number(right);
    if (!x.valid || !y.valid)
        no_operation("+", left, right);
    if (x.is_real || y.is_real)
        return jinja_value::of(x.real + y.real);
    std::int64_t sum = 0;
    if (__builtin_add_overflow(x.integer, y.integer, &sum))
        too_large();
    return jinja_value::of(sum);
}

jinja_value repeat(const jinja_value& what, std::int64_t times, jinja_budget& budget) {
    const auto count = static_cast<std::size_t>(std::max<std::int64_t>(times, 0));
    const std::size_t length = what.text() != nullptr ? what.text()->size() : what.items()->size();
    if (length != 0 && count > budget.output_bytes_max() / length)
        jinja_fail(errc::invalid_argument, "a repeated text over the limit of bytes");
    if (const std::string* text = what.text()) {
        budget.make(length * count);
        std::string made;
        for (std::size_t i = 0; i < count && length != 0; ++i)
            made += *text;
        return jinja_value::of(std::move(made));
    }
    budget.make(length * count * sizeof(jinja_value));
    jinja_items items;
    for (std::size_t i = 0; i < count && length != 0; ++i)
        items.insert(items.end(), what.items()->begin(), what.items()->end());
    return jinja_value::of(std::move(items));
}

jinja_value multiply(const jinja_value& left, const jinja_value& right, jinja_budget& budget) {
    const jinja_number x = as_number(left);
    const jinja_number y = as_number(right);
    if (x.valid && !x.is_real && (right.text() != nullptr || right.items() != nullptr))
        return repeat(right, x.integer, budget);
    if (y.valid && !y.is_real && (left.text() != nullptr || left.items() != nullptr))
        return repeat(left, y.integer, budget);
    if (!x.valid || !y.valid)
        no_operation("*", left, right);
    if (x.is_real || y.is_real)
        return jinja_value::of(x.real * y.real);
    std::int64_t product = 0;
    if (__builtin_mul_overflow(x.integer, y.integer, &product))
        too_large();
    return jinja_value::of(product);
}

jinja_value subtract(const jinja_value& left, const jinja_value& right) {
    const jinja_number x = as_number(left);
    const jinja_number y = as_number(right);
    if (!x.valid || !y.valid)
        no_operation("-", left, right);
    if (x.is_real || y.is_real)
        return jinja_value::of(x.real - y.real);
    std::int64_t difference = 0;
    if (__builtin_sub_overflow(x.integer, y.integer, &difference))
        too_large();
    return jinja_value::of(difference);
}

/// The three divisions. Python rounds down, C++ toward zero.
jinja_value divide(jinja_operator what, const jinja_value& left, const jinja_value& right) {
    const jinja_number x = as_number(left);
    const jinja_number y = as_number(right);
    if (!x.valid || !y.valid)
        no_operation(what == jinja_operator::modulo ? "%" : "/", left, right);
    if (y.real == 0)
        jinja_fail(errc::invalid_argument, "a division by zero");
    if (what == jinja_operator::divide)
        return jinja_value::of(x.real / y.real);
    if (x.is_real || y.is_real) {
        const double floored = std::floor(x.real / y.real);
        return jinja_value::of(what == jinja_operator::floor_divide ? floored : x.real - floored * y.real);
    }
    if (y.integer == -1) // INT64_MIN / -1 overflows
        return what == jinja_operator::modulo ? jinja_value::of(std::int64_t{0})
                                              : subtract(jinja_value::of(std::int64_t{0}), left);
    std::int64_t quotient = x.integer / y.integer;
    std::int64_t rest = x.integer % y.integer;
    if (rest != 0 && (rest < 0) != (y.integer < 0)) {
        --quotient;
        rest += y.integer;
    }
    return jinja_value::of(what == jinja_operator::floor_divide ? quotient : rest);
}

bool contains(const jinja_value& container, const jinja_value& wanted, jinja_budget& budget) {
    if (container.is_undefined())
        return false;
    if (const std::string* text = container.text()) {
        if (wanted.text() == nullptr)
            no_operation("in", wanted, container);
        budget.touch(text->size());
        return text->find(*wanted.text()) != std::string::npos;
    }
    if (const jinja_items* items = container.items())
        return std::any_of(items->begin(), items->end(),
                           [&](const jinja_value& item) { return equals(item, wanted, budget); });
    if (container.members() == nullptr || container.is_namespace())
        no_operation("in", wanted, container);
    return wanted.text() != nullptr && !member_of(container, *wanted.text(), budget).is_undefined();
}

} // namespace

jinja_value apply_jinja_operator(jinja_operator what, const jinja_value& left, const jinja_value& right,
                                 jinja_budget& budget) {
    switch (what) {
    case jinja_operator::add:
        return add(left, right, budget);
    case jinja_operator::subtract:
        return subtract(left, right);
    case jinja_operator::multiply:
        return multiply(left, right, budget);
    case jinja_operator::divide:
    case jinja_operator::floor_divide:
    case jinja_operator::modulo:
        return divide(what, left, right);
    case jinja_operator::join:
        return join_texts(to_text(left, budget), to_text(right, budget), budget);
    default:
        return jinja_value::of(holds_jinja_operator(what, left, right, budget));
    }
}

bool holds_jinja_operator(jinja_operator what, const jinja_value& left, const jinja_value& right,
                          jinja_budget& budget) {
    switch (what) {
    case jinja_operator::equal:
        return equals(left, right, budget);
    case jinja_operator::not_equal:
        return !equals(left, right, budget);
    case jinja_operator::less:
        return compare(left, right, budget) < 0;
    case jinja_operator::less_equal:
        return compare(left, right, budget) <= 0;
    case jinja_operator::greater:
        return compare(left, right, budget) > 0;
    case jinja_operator::greater_equal:
        return compare(left, right, budget) >= 0;
    case jinja_operator::in:
        return contains(right, left, budget);
    case jinja_operator::not_in:
        return !contains(right, left, budget);
    default:
        return is_true(apply_jinja_operator(what, left, right, budget));
    }
}

} // namespace moira
