#pragma once

#include "core/execute/op_provider.hpp"

namespace moira {

/// Launches that were recorded once and are replayed in one call; see device_queue::begin_graph. Move-only; borrows the
/// provider and everything that the launches name, and goes before its queue.
class device_graph {
public:
    device_graph() = default; ///< empty
    device_graph(const op_provider& provider, moira_graph* graph) noexcept : provider_(&provider), graph_(graph) {}
    device_graph(device_graph&& other) noexcept;
    device_graph& operator=(device_graph&& other) noexcept;
    ~device_graph();

    const op_provider* provider() const noexcept { return provider_; }
    moira_graph* handle() const noexcept { return graph_; }

private:
    const op_provider* provider_ = nullptr;
    moira_graph* graph_ = nullptr;
};

} // namespace moira
