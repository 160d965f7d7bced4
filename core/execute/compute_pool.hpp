#pragma once

#include "core/base/log.hpp"
#include "plugins/moira_plugin.h"

#include <cstdint>
#include <memory>

namespace moira {

/// The runtime's only compute threads: a fixed team that kernels borrow through moira_host.run_team. Members spin for a
/// bounded time after a task, then park; they are never niced.
class compute_pool {
public:
    struct options {
        std::uint32_t threads = 0;           ///< 0: the cores that this process may use
        std::uint32_t spin_us_max = 200;     ///< longer than the gap between two ops of a layer, shorter than a time slice
        bool shrink_when_crowded = false;    ///< let the caller work alone while waiting for the others costs more than it saves
    };

    explicit compute_pool(const options& wanted);
    ~compute_pool();  ///< joins; no task may be running
    compute_pool(const compute_pool&) = delete;
    compute_pool& operator=(const compute_pool&) = delete;

    std::uint32_t size() const noexcept;

    /// Runs `function` once on each of at most `team_size_max` members (0: all); the caller is member 0. One task at a
    /// time: concurrent callers take turns. Nested calls run on the caller alone (team size 1), as do all for a while
    /// after a team lost its cores to a neighbour, if options.shrink_when_crowded.
    void run(std::uint32_t team_size_max, moira_team_function function, void* argument);

    /// Waits until all members of the running task have arrived. Only from within a task.
    static void barrier(const moira_team_member& member);

private:
    struct impl;
    std::unique_ptr<impl> impl_;
};

/// The services that plugins get. The table lives as long as this object, and borrows the pool.
class plugin_host_services {
public:
    static constexpr std::size_t plugin_message_bytes_max = 1'024;  ///< a sentence; more is not for people

    /// `log` gets what plugins say, cut to plugin_message_bytes_max.
    explicit plugin_host_services(compute_pool& pool, log_function log = {});
    ~plugin_host_services();
    plugin_host_services(const plugin_host_services&) = delete;
    plugin_host_services& operator=(const plugin_host_services&) = delete;

    const moira_host& table() const noexcept;

private:
    struct impl;
    std::unique_ptr<impl> impl_;
};

/// Features that both the processor and the operating system (XCR0) support, and usable cores (affinity and cgroup quota).
moira_device_facts read_device_facts() noexcept;

}  // namespace moira
