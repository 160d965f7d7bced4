#pragma once

#include "core/text/jinja_value.hpp"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace moira {

enum class jinja_operator {
    add,
    subtract,
    multiply,
    divide,
    floor_divide,
    modulo,
    join,
    equal,
    not_equal,
    less,
    less_equal,
    greater,
    greater_equal,
    in,
    not_in
};

/// One expression. What the operands are depends on the kind; optional ones may be null.
struct jinja_expression {
    enum class kind {
        literal,     ///< literal
        variable,    ///< name
        list,        ///< operands
        dict,        ///< operands: key, value, key, value ...
        attribute,   ///< operands[0] . name
        subscript,   ///< operands[0] [ operands[1] ]
        slice,       ///< operands[0] [ operands[1] : operands[2] : operands[3] ], each optional
        call,        ///< name(operands ..., named ...), a global function
        method,      ///< operands[0] . name(operands[1] ..., named ...)
        filter,      ///< operands[0] | name(operands[1] ..., named ...)
        test,        ///< operands[0] is name(operands[1] ...); negated
        negate,      ///< - operands[0]
        plus,        ///< + operands[0]
        invert,      ///< not operands[0]
        conjunction, ///< all operands, joined by `and`
        disjunction, ///< all operands, joined by `or`
        binary,      ///< operands[0] operators[0] operands[1] operators[1] ..., from left to right
        comparison,  ///< the same, every neighbouring pair must hold
        conditional, ///< operands[0] if operands[1] else operands[2] (optional)
    };

    kind what = kind::literal;
    std::size_t line = 1;
    std::size_t depth = 1; ///< of the tree below, bounded by the parser
    std::string name;
    bool negated = false;
    jinja_value literal;
    std::vector<std::unique_ptr<jinja_expression>> operands;
    std::vector<std::pair<std::string, std::unique_ptr<jinja_expression>>> named;
    std::vector<jinja_operator> operators;
};

using jinja_expression_pointer = std::unique_ptr<jinja_expression>;

struct jinja_statement;
using jinja_body = std::vector<jinja_statement>;

/// One statement; which members count depends on the kind.
struct jinja_statement {
    enum class kind {
        text,          ///< text
        output,        ///< value
        condition,     ///< branches, first true one; else_body
        loop,          ///< for targets in value if filter: body; else_body when nothing was looped over
        assignment,    ///< set targets = value
        set_attribute, ///< set targets[0].text = value
        capture,       ///< set targets[0]: body
        group,         ///< body as it is
        leave_loop,
        next_iteration,
    };

    struct branch;

    kind what = kind::text;
    std::size_t line = 1;
    std::string text;
    jinja_expression_pointer value;
    jinja_expression_pointer filter;
    std::vector<std::string> targets;
    std::vector<branch> branches;
    jinja_body body;
    jinja_body else_body;
};

struct jinja_statement::branch {
    jinja_expression_pointer condition;
    jinja_body body;
};

} // namespace moira
