#include "tools/moira/open_plugins.hpp"

#include "actors/runtime_parts.hpp"
#include "tools/moira/executable_path.hpp"

namespace moira {

result<std::unique_ptr<plugin_host>> open_plugins(const settings& all, const std::string& forced, compute_pool& pool) {
    auto wanted = plugin_options_of(all);
    wanted.folders = plugin_folders(all.plugins.path);
    wanted.forced_plugin = forced;
    return plugin_host::open(wanted, pool);
}

} // namespace moira
