// Recording and replaying, by the rules of the interface.
#include "plugins/fake_device/fake_device.hpp"

#include <utility>

namespace moira {

namespace {

fake_stream& of(moira_stream* stream) {
    return *static_cast<fake_stream*>(stream);
}

// Whether the op and all memory that it names are those that were recorded.
moira_status check_alive(const fake_device& device, const recorded_op& op) {
    const auto found = device.ops.find(op.handle);
    if (found == device.ops.end() || found->second != op.serial)
        return report(MOIRA_INVALID_ARGUMENT, "a graph replays op %u, which was destroyed", op.work.op.desc.header.op);
    for (const auto& [address, serial] : op.memory)
        if (device.serial_of(address) != serial)
            return report(MOIRA_INVALID_ARGUMENT, "a graph replays op %u on memory that was freed",
                          op.work.op.desc.header.op);
    return MOIRA_OK;
}

} // namespace

moira_status launch_faults(fake_device& device, uint32_t kind, uint64_t amount) {
    if (device.loss.strikes()) {
        device.lost = true;
        return device.log(kind, 0, amount, lost());
    }
    if (device.launch_fault.strikes())
        return device.log(kind, 0, amount, report(MOIRA_LAUNCH_FAILED, "launch failed, as scripted"));
    return MOIRA_OK;
}

moira_status refuse_recording(fake_stream& stream, const char* what) {
    if (!stream.recording)
        return MOIRA_OK;
    stream.recording->spoilt = true;
    return report(MOIRA_INVALID_ARGUMENT, "%s while a graph is recorded", what);
}

moira_status refuse_recordings(fake_device& device, const char* what) {
    moira_status status = MOIRA_OK;
    for (fake_stream* stream : device.streams)
        if (stream->recording && stream->recording->thread == std::this_thread::get_id())
            status = refuse_recording(*stream, what);
    return status;
}

void record(fake_stream& stream, const moira_launch& launch, queued_op work) {
    const fake_device& device = stream.owner();
    recorded_op recorded{work, launch.op, device.ops.at(launch.op), {}};
    for (const void* address : addresses_of(work.op.desc.header.op, work.args))
        recorded.memory.emplace_back(address, device.serial_of(address));
    stream.recording->ops.push_back(std::move(recorded));
}

moira_status fake_graph_begin(moira_stream* stream) {
    if (!stream)
        return report(MOIRA_INVALID_ARGUMENT, "graph_begin needs a stream");
    fake_stream& on = of(stream);
    return on_device(on.owner(), [&] {
        if (const moira_status status = refuse_recording(on, "beginning a graph"))
            return status;
        on.recording = std::make_unique<fake_recording>();
        return on.owner().log(MOIRA_FAKE_GRAPH_BEGIN, 0, 0, MOIRA_OK);
    });
}

moira_status fake_graph_end(moira_stream* stream, moira_graph** graph) {
    if (!stream || !graph)
        return report(MOIRA_INVALID_ARGUMENT, "graph_end needs a stream and a place for the graph");
    fake_stream& on = of(stream);
    *graph = nullptr;
    return on_device(on.owner(), [&] {
        const auto recording = std::move(on.recording);
        if (!recording)
            return report(MOIRA_INVALID_ARGUMENT, "graph_end without graph_begin");
        const uint64_t amount = recording->ops.size();
        if (recording->spoilt)
            return on.owner().log(MOIRA_FAKE_GRAPH_END, 0, amount,
                                  report(MOIRA_INVALID_ARGUMENT, "the graph was spoilt while it was recorded"));
        *graph = new moira_graph{&on, std::move(recording->ops)};
        ++on.owner().live_objects;
        return on.owner().log(MOIRA_FAKE_GRAPH_END, 0, amount, MOIRA_OK);
    });
}

moira_status fake_graph_launch(moira_stream* stream, moira_graph* graph) {
    if (!stream || !graph || graph->stream != stream)
        return report(MOIRA_INVALID_ARGUMENT, "graph_launch needs a graph and the stream that recorded it");
    fake_stream& on = of(stream);
    fake_device& device = on.owner();
    return on_device(device, [&] {
        const uint64_t amount = graph->ops.size();
        moira_status status = refuse_recording(on, "replaying a graph");
        if (status == MOIRA_OK)
            status = launch_faults(device, MOIRA_FAKE_GRAPH_LAUNCH, amount);
        if (status != MOIRA_OK)
            return status;
        for (const recorded_op& op : graph->ops)
            if ((status = check_alive(device, op)))
                return device.log(MOIRA_FAKE_GRAPH_LAUNCH, 0, amount, status);
        for (const recorded_op& op : graph->ops)
            enqueue(on, op.work, device.latency_us);
        return device.log(MOIRA_FAKE_GRAPH_LAUNCH, 0, amount, MOIRA_OK);
    });
}

void fake_graph_destroy(moira_graph* graph) {
    if (!graph)
        return;
    fake_device& device = graph->stream->owner();
    const std::scoped_lock lock(device.mutex);
    --device.live_objects;
    delete graph;
}

} // namespace moira
