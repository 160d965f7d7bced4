#pragma once

#include "actors/local_runtime.hpp"
#include "actors/runtime_parts.hpp"
#include "core/base/error.hpp"
#include "tools/moira/command_line.hpp"

#include <functional>
#include <memory>
#include <string>

namespace moira {

/// Loads what `-m` names, for commands that need no actors. Progress goes to standard error when it is a terminal, and
/// so does what `log.level` lets through. `mtp`: with its multi-token-prediction layer. Errors: also unsupported, when the
/// model has none.
result<model_room> load_model(const std::string& wanted, const command_context& context, bool mtp = false);

/// The same with the actors of a runtime.
result<std::unique_ptr<local_runtime>> load_runtime(const std::string& wanted, const command_context& context);

/// Makes SIGINT a question instead of an end: true once the user has pressed Ctrl-C. A second one ends the process.
std::function<bool()> watch_interrupt();

}  // namespace moira
