// Graphs: launches are captured once, with error slots of the graph's own, and replayed in one call.
#include "plugins/cuda_runtime/cuda_runtime.hpp"

#include <algorithm>

namespace moira {

namespace {

void set_recording(moira_stream& stream, moira_graph* graph) {
    const std::scoped_lock lock(stream.device->streams_mutex);
    stream.recording = graph;
}

void destroy_graph(moira_graph* graph) {
    moira_device& device = *graph->stream->device;
    if (graph->graph)
        (void)device.calls->graph_destroy(graph->graph);
    release_errors(*device.calls, graph->errors);
    destroy_object(*device.host, graph);
}

bool is_replayed(const moira_stream& stream, const moira_graph* graph) {
    return std::any_of(stream.replays.begin(), stream.replays.end(),
                       [graph](const graph_replay& replay) { return replay.graph == graph; });
}

} // namespace

moira_status refuse_recording(moira_stream& stream, const char* what) {
    if (!stream.recording)
        return MOIRA_OK;
    stream.recording->spoilt = true;
    return report(MOIRA_INVALID_ARGUMENT, "%s while a graph is recorded", what);
}

moira_status refuse_recordings(moira_device& device, const char* what) {
    const std::scoped_lock lock(device.streams_mutex);
    moira_status status = MOIRA_OK;
    for (moira_stream* stream : device.streams)
        if (stream->recording && stream->recording->recorder == std::this_thread::get_id())
            status = refuse_recording(*stream, what);
    return status;
}

moira_status cuda_graph_begin(moira_stream* stream) {
    if (!stream)
        return report(MOIRA_INVALID_ARGUMENT, "graph_begin needs a stream");
    if (const moira_status status = refuse_recording(*stream, "beginning a graph"))
        return status;
    moira_device& device = *stream->device;
    if (const moira_status status = enter_device(device))
        return status;
    auto* created = create_object<moira_graph>(*device.host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for a graph");
    created->stream = stream;
    created->recorder = std::this_thread::get_id();
    int code = make_errors(*device.calls, created->errors, stream->stream);
    if (code == 0)
        code = device.calls->capture_begin(stream->stream);
    if (code) {
        destroy_graph(created);
        return cuda_status(device, code, "beginning a graph");
    }
    set_recording(*stream, created);
    return MOIRA_OK;
}

moira_status cuda_graph_end(moira_stream* stream, moira_graph** graph) {
    if (!stream || !graph)
        return report(MOIRA_INVALID_ARGUMENT, "graph_end needs a stream and a place for the graph");
    *graph = nullptr;
    moira_graph* recorded = stream->recording;
    if (!recorded)
        return report(MOIRA_INVALID_ARGUMENT, "graph_end without graph_begin");
    moira_device& device = *stream->device;
    set_recording(*stream, nullptr);
    // Also when the graph is of no use: the stream must not go on capturing.
    moira_status status = enter_device(device);
    if (const int code = device.calls->capture_end(stream->stream, &recorded->graph); code && status == MOIRA_OK)
        status = cuda_status(device, code, "ending a graph");
    if (status == MOIRA_OK && recorded->spoilt)
        status = report(MOIRA_INVALID_ARGUMENT, "the graph was spoilt while it was recorded");
    if (status != MOIRA_OK) {
        destroy_graph(recorded);
        return status;
    }
    *graph = recorded;
    return MOIRA_OK;
}

moira_status cuda_graph_launch(moira_stream* stream, moira_graph* graph) {
    if (!stream || !graph || graph->stream != stream)
        return report(MOIRA_INVALID_ARGUMENT, "graph_launch needs a graph and the stream that recorded it");
    if (const moira_status status = refuse_recording(*stream, "replaying a graph"))
        return status;
    moira_device& device = *stream->device;
    if (const moira_status status = enter_device(device))
        return status;
    // Its slots hold one replay's errors.
    if (is_replayed(*stream, graph))
        if (const moira_status status = collect_errors(*stream))
            return status;
    if (const int code = device.calls->graph_launch(graph->graph, stream->stream)) {
        const moira_status status = cuda_status(device, code, "replaying a graph");
        return status == MOIRA_OUT_OF_MEMORY ? MOIRA_LAUNCH_FAILED : status;
    }
    stream->replays.push_back({graph, stream->errors.used});
    return MOIRA_OK;
}

void cuda_graph_destroy(moira_graph* graph) {
    if (!graph)
        return;
    (void)graph->stream->device->calls->select(graph->stream->device->ordinal);
    if (is_replayed(*graph->stream, graph))
        (void)collect_errors(*graph->stream); // the error stays with the stream
    destroy_graph(graph);
}

} // namespace moira
