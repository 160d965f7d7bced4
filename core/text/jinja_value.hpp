#pragma once

#include "core/text/jinja_budget.hpp"

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace moira {

class jinja_value;
using jinja_items = std::vector<jinja_value>;
using jinja_members = std::vector<std::pair<std::string, jinja_value>>; // in order of insertion

/// Deepest nesting of values: keeps every recursion over them, destruction too, well inside a thread's stack.
inline constexpr std::size_t jinja_value_depth_max = 100;

/// A value of the template language, as cheap to copy as a pointer. Everything but a namespace is immutable; a
/// namespace cannot be put into another value, so that there are no cycles.
class jinja_value {
public:
    struct list_data;
    struct dict_data;
    struct namespace_data;
    struct undefined {};
    struct none {};
    struct function { ///< a global function, by name
        std::string name;
    };

    jinja_value() = default; ///< undefined
    static jinja_value of_none() { return jinja_value(none{}); }
    static jinja_value of(bool value) { return jinja_value(value); }
    static jinja_value of(std::int64_t value) { return jinja_value(value); }
    static jinja_value of(double value) { return jinja_value(value); }
    static jinja_value of(std::string text);
    static jinja_value of(const char* text) = delete; // would become a bool
    static jinja_value of(jinja_items items);
    static jinja_value of(jinja_members members);
    static jinja_value of_function(std::string name) { return jinja_value(function{std::move(name)}); }
    static jinja_value make_namespace(jinja_members members);

    /// Throws jinja_failure when it is nested too deeply or a number is out of range.
    static jinja_value from_json(const nlohmann::ordered_json& json, std::size_t depth = 0);

    bool is_undefined() const { return std::holds_alternative<undefined>(data_); }
    bool is_none() const { return std::holds_alternative<none>(data_); }
    const bool* boolean() const { return std::get_if<bool>(&data_); }
    const std::int64_t* integer() const { return std::get_if<std::int64_t>(&data_); }
    const double* real() const { return std::get_if<double>(&data_); }
    const std::string* text() const;
    const jinja_items* items() const;
    const jinja_members* members() const; ///< of a dict or a namespace
    bool is_namespace() const { return std::holds_alternative<std::shared_ptr<namespace_data>>(data_); }
    const function* callable() const { return std::get_if<function>(&data_); }

    /// Precondition: is_namespace(). Throws jinja_failure when `value` is a namespace.
    void set_member(const std::string& name, jinja_value value, jinja_budget& budget);

    std::size_t depth() const; ///< 0 for what holds no other values
    std::string_view kind_name() const;

private:
    using data = std::variant<undefined, none, bool, std::int64_t, double, std::shared_ptr<const std::string>,
                              std::shared_ptr<const list_data>, std::shared_ptr<const dict_data>,
                              std::shared_ptr<namespace_data>, function>;
    template <class T>
    explicit jinja_value(T value) : data_(std::move(value)) {}
    data data_;
};

/// A number of any kind as Python sees it (a bool counts); `is_real` tells how it was written.
struct jinja_number {
    bool valid = false;
    bool is_real = false;
    std::int64_t integer = 0;
    double real = 0;
};
jinja_number as_number(const jinja_value& value);

bool is_true(const jinja_value& value);
bool equals(const jinja_value& a, const jinja_value& b, jinja_budget& budget);

/// Order of two numbers or two strings: negative, 0 or positive. Throws jinja_failure for other values.
int compare(const jinja_value& a, const jinja_value& b, jinja_budget& budget);

/// Member of a dict or namespace; undefined when there is none.
jinja_value member_of(const jinja_value& container, std::string_view name, jinja_budget& budget);

/// The values that a loop over `value` takes: items, keys of a dict, characters. Throws for what has none.
jinja_items iterate(const jinja_value& value, jinja_budget& budget);

} // namespace moira
