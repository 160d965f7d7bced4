#pragma once

#include <functional>
#include <string>

namespace moira {

enum class log_level { debug, info, warning, error };

/// Where sentences for the operator go. Passed in by whoever embeds the runtime; nothing in MOIRA keeps a logger of its
/// own. Called from any thread; must not throw. Empty: nobody listens.
using log_function = std::function<void(log_level, const std::string&)>;

}  // namespace moira
