#pragma once

#include "core/text/jinja_value.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moira {

/// What a filter, test, method or function is called with.
struct jinja_arguments {
    std::vector<jinja_value> positional;
    std::vector<std::pair<std::string, jinja_value>> named;

    /// The argument at `index`, or the one called `name`; undefined when it was not given.
    jinja_value get(std::size_t index, std::string_view name) const;
};

/// Known names. The parser refuses others where they are sure to be reached, so that a template fails when it is read
/// and not in a conversation.
bool is_jinja_filter(std::string_view name);
bool is_jinja_test(std::string_view name);
bool is_jinja_method(std::string_view name);
bool is_jinja_function(std::string_view name);

/// Each throws jinja_failure (invalid_argument) for values that it cannot take. An unknown name is unsupported.
jinja_value apply_jinja_filter(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                               jinja_budget& budget);
bool apply_jinja_test(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                      jinja_budget& budget);
jinja_value call_jinja_method(const std::string& name, const jinja_value& self, const jinja_arguments& arguments,
                              jinja_budget& budget);
jinja_value call_jinja_function(const std::string& name, const jinja_arguments& arguments, jinja_budget& budget);

} // namespace moira
