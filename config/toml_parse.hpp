#pragma once

#include "core/base/error.hpp"

#include <string_view>

// The only place that includes toml++: its options must be the same wherever it is seen.
// Its parser asserts where it should report an error (dates with letters, for one), and assumes the same things in
// release builds, where hostile text would then mean undefined behaviour. So its assertions stay on, and throw.
namespace moira {
struct toml_assertion {};
[[noreturn]] void throw_toml_assertion();
} // namespace moira
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? static_cast<void>(0) : ::moira::throw_toml_assertion())
#define TOML_EXCEPTIONS 0
// No nesting beyond what a settings file has: a section, a list, a text.
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace moira {

/// Parses hostile text. Errors: invalid_config with name:line:column.
result<toml::table> parse_toml(std::string_view text, std::string_view name);

} // namespace moira
