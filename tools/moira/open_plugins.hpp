#pragma once

#include "config/settings.hpp"
#include "core/execute/compute_pool.hpp"
#include "plugins/plugin_host.hpp"

#include <memory>
#include <string>

namespace moira {

/// The plugins of this installation, on a pool that outlives them. `forced`: as compute.plugin. Errors: those of
/// plugin_host::open.
result<std::unique_ptr<plugin_host>> open_plugins(const settings& all, const std::string& forced, compute_pool& pool);

} // namespace moira
