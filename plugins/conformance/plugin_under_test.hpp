#pragma once

#include "plugins/plugin_host.hpp"

namespace moira {

/// Finds a plugin by its own name, whatever its class, before anything is opened. Errors: not_found.
result<found_plugin> find_plugin(const std::vector<std::filesystem::path>& folders, const std::string& name);

/// One opened plugin with a team of its own.
struct plugin_under_test {
    compute_pool pool;
    std::unique_ptr<plugin_host> host;

    explicit plugin_under_test(std::uint32_t threads) : pool({threads, 50}) {}
    const op_provider& provider() const { return host->memory_provider(); }
};

/// threads: 0 for as many as there are cores. Errors: op_missing (it cannot be opened, with the reason).
result<std::unique_ptr<plugin_under_test>> open_plugin_under_test(const std::vector<std::filesystem::path>& folders,
                                                                  const std::string& name,
                                                                  const std::string& device_class,
                                                                  std::uint32_t threads);

} // namespace moira
