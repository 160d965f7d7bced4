#pragma once

#include "core/text/jinja_syntax.hpp"

#include <string_view>

namespace moira {

/// Reads a whole template. `depth_max` bounds the nesting of blocks and, on its own, of expressions. Throws
/// jinja_failure: corrupt_file for what is not Jinja, unsupported for what this interpreter does not know.
jinja_body parse_jinja(std::string_view source, std::size_t depth_max);

} // namespace moira
