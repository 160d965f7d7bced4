#include "core/execute/device_graph.hpp"

#include "core/execute/device.hpp"

#include <utility>

namespace moira {

device_graph::device_graph(device_graph&& other) noexcept
    : provider_(std::exchange(other.provider_, nullptr)), graph_(std::exchange(other.graph_, nullptr)) {}

device_graph& device_graph::operator=(device_graph&& other) noexcept {
    std::swap(provider_, other.provider_);
    std::swap(graph_, other.graph_);
    return *this;
}

device_graph::~device_graph() {
    if (graph_)
        provider_->api->graph_destroy(graph_);
}

result<void> device_queue::begin_graph() {
    auto stream = stream_of(*current_);
    if (!stream)
        return tl::unexpected(stream.error());
    if (const auto status = current_->api->graph_begin(*stream); status != MOIRA_OK)
        return tl::unexpected(plugin_error(*current_, status, "beginning a graph"));
    return {};
}

result<device_graph> device_queue::end_graph() {
    auto stream = stream_of(*current_);
    if (!stream)
        return tl::unexpected(stream.error());
    moira_graph* graph = nullptr;
    if (const auto status = current_->api->graph_end(*stream, &graph); status != MOIRA_OK)
        return tl::unexpected(plugin_error(*current_, status, "ending a graph"));
    return device_graph(*current_, graph);
}

result<void> device_queue::launch(const device_graph& graph) {
    if (auto ready = switch_to(*graph.provider()); !ready)
        return ready;
    auto stream = stream_of(*current_);
    if (!stream)
        return tl::unexpected(stream.error());
    if (const auto status = current_->api->graph_launch(*stream, graph.handle()); status != MOIRA_OK)
        return tl::unexpected(plugin_error(*current_, status, "replaying a graph"));
    return {};
}

} // namespace moira
