#pragma once

#include "runtime_messages.hpp"

#include <functional>
#include <string>
#include <vector>

#if defined(__GNUC__)
#    define MOIRA_PUBLIC __attribute__((visibility("default")))
#else
#    define MOIRA_PUBLIC
#endif

namespace moira {

/// Makes the messages known to a host's configuration, and MOIRA's errors readable for `system.render`. Before the
/// actor system is built, and in every process that holds a runtime_actor. Returns `config`.
MOIRA_PUBLIC caf::actor_system_config& add_message_types(caf::actor_system_config& config);

/// How a runtime is built. The same settings, checks and errors as those of the program `moira`.
struct runtime_options {
    std::string settings_toml;         ///< the text of a settings file; may be empty
    std::vector<std::string> settings; ///< "section.key=value", applied after the text
    std::string model_folder;          ///< in Hugging Face layout; empty: the bundled model
    /// Empty: the setting plugins.path, and without it the folder that was installed with the library.
    std::vector<std::string> plugin_folders;
    /// Hears ("info", "warning" or "error", a sentence). Called from any thread; must not throw. Empty: nobody listens.
    std::function<void(const std::string&, const std::string&)> log;
};

/// Loads the model and starts a runtime on the host's actor system; blocks while loading. Any number may run in one
/// system. The runtime installs no signal handlers, opens no port by itself and ends, with everything that it holds,
/// when its handle gets an exit message: `caf::anon_send_exit(runtime, caf::exit_reason::user_shutdown)`. Open requests
/// then get their text_end with code `draining`. Errors: those of the settings, the model, the plugins and the memory,
/// see error_code.
MOIRA_PUBLIC caf::expected<runtime_actor> spawn_runtime(caf::actor_system& system, const runtime_options& options);

/// The name of an error of this library ("invalid_config"), as ARCHITECTURE.md lists them; empty: of somebody else.
MOIRA_PUBLIC std::string error_code(const caf::error& failure);

/// Its sentence: what was found, what was expected, what to do.
MOIRA_PUBLIC std::string error_message(const caf::error& failure);

} // namespace moira
