#pragma once

#include "core/text/jinja_syntax.hpp"

namespace moira {

/// `left what right`, with Python's rules. Throws jinja_failure (invalid_argument) for values without that operation
/// and for whole numbers beyond 63 bits.
jinja_value apply_jinja_operator(jinja_operator what, const jinja_value& left, const jinja_value& right,
                                 jinja_budget& budget);

/// A comparison or membership.
bool holds_jinja_operator(jinja_operator what, const jinja_value& left, const jinja_value& right, jinja_budget& budget);

} // namespace moira
