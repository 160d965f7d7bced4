#pragma once

#include "core/execute/compute_pool.hpp"
#include "plugins/plugin_host.hpp"
#include "tests/execute/test_engine.hpp"
#include "tests/pack/packed_folder.hpp"

namespace moira {

/// One plugin, for its layout. No threads.
struct layout_plugins {
    compute_pool pool{compute_pool::options{1, 0}};
    std::unique_ptr<plugin_host> host;

    explicit layout_plugins(const std::string& plugin) {
        plugin_host::options wanted;
        wanted.folders = {MOIRA_BUILD_PLUGINS};
        wanted.forced_plugin = plugin;
        auto opened = plugin_host::open(wanted, pool);
        REQUIRE_MESSAGE(opened, opened.error().message);
        host = std::move(*opened);
    }
};

} // namespace moira
