// Streams and the error word of a step.
#include "plugins/cuda_runtime/cuda_runtime.hpp"

#include <algorithm>
#include <cstring>

namespace moira {

namespace {

constexpr uint64_t slot_bytes = sizeof(error_slot_words);
constexpr int slot_empty = 0xff; // every byte of a slot where nothing happened

// All that a stream needs from the device; the destructor's twin below takes apart whatever of it was made.
int make_stream(moira_stream& stream) {
    const cuda_calls& calls = *stream.device->calls;
    int code = calls.stream_create(&stream.stream);
    void* memory = nullptr;
    if (code || (code = make_errors(calls, stream.errors, stream.stream)))
        return code;
    if ((code = calls.allocate_host(&memory, staging_ring::parts * staging_ring::part_bytes)))
        return code;
    stream.uploads.memory = static_cast<char*>(memory);
    if ((code = calls.allocate_host(&memory, moira_stream::download_bytes)))
        return code;
    stream.downloads = static_cast<char*>(memory);
    for (void*& event : stream.uploads.events)
        if ((code = calls.event_create(&event)))
            return code;
    return 0;
}

void take_apart(moira_stream& stream) {
    const cuda_calls& calls = *stream.device->calls;
    (void)calls.select(stream.device->ordinal);
    if (stream.stream)
        (void)calls.stream_synchronize(stream.stream);
    for (void* event : stream.uploads.events)
        if (event)
            (void)calls.event_destroy(event);
    for (void* memory : {static_cast<void*>(stream.uploads.memory), static_cast<void*>(stream.downloads)})
        if (memory)
            (void)calls.release_host(memory);
    release_errors(calls, stream.errors);
    if (stream.stream)
        (void)calls.stream_destroy(stream.stream);
}

void deliver(moira_stream& stream) {
    for (const staged_delivery& each : stream.deliveries)
        std::memcpy(each.to, each.from, each.bytes);
    stream.deliveries.clear();
    stream.downloads_used = 0;
}

moira_status wait(moira_stream& stream, const char* doing) {
    const int code = stream.device->calls->stream_synchronize(stream.stream);
    if (code)
        return cuda_status(*stream.device, code, doing);
    deliver(stream);
    return MOIRA_OK;
}

// Queued: what the slots hold is copied, and behind that they are empty for the next step.
int queue_errors(moira_stream& stream, error_list& list) {
    const cuda_calls& calls = *stream.device->calls;
    const uint64_t bytes = list.used * slot_bytes;
    if (bytes == 0)
        return 0;
    if (const int code = calls.copy(list.seen, list.slots, bytes, stream.stream))
        return code;
    return calls.fill(list.slots, slot_empty, bytes, stream.stream);
}

// In the order of the launches: a graph stands where it was replayed.
moira_error_word first_error_of_step(const moira_stream& stream) {
    uint32_t begin = 0;
    for (const auto& [graph, behind] : stream.replays) {
        if (const moira_error_word word = first_error(stream.errors, begin, behind); word.code != MOIRA_ERROR_NONE)
            return word;
        if (const moira_error_word word = first_error(graph->errors, 0, graph->errors.used);
            word.code != MOIRA_ERROR_NONE)
            return word;
        begin = behind;
    }
    return first_error(stream.errors, begin, stream.errors.used);
}

} // namespace

int make_errors(const cuda_calls& calls, error_list& list, void* stream) {
    void* memory = nullptr;
    if (const int code = calls.allocate(&memory, error_slots * slot_bytes, nullptr, nullptr))
        return code;
    list.slots = static_cast<error_slot_words*>(memory);
    if (const int code = calls.allocate_host(&memory, error_slots * slot_bytes))
        return code;
    list.seen = static_cast<error_slot_words*>(memory);
    return calls.fill(list.slots, slot_empty, error_slots * slot_bytes, stream);
}

void release_errors(const cuda_calls& calls, const error_list& list) {
    if (list.seen)
        (void)calls.release_host(list.seen);
    if (list.slots)
        (void)calls.release(list.slots, nullptr, nullptr);
}

moira_error_word first_error(const error_list& list, uint32_t begin, uint32_t end) {
    for (uint32_t index = begin; index < end; ++index) {
        const uint64_t word = list.seen[index].row_code;
        if (word == UINT64_MAX)
            continue;
        return {uint32_t(word), list.ops[index], int32_t(uint32_t(word >> 32)),
                int32_t(uint32_t(list.seen[index].row_detail))};
    }
    return {};
}

moira_status collect_errors(moira_stream& stream) {
    moira_device& device = *stream.device;
    int code = queue_errors(stream, stream.errors);
    for (const graph_replay& replay : stream.replays)
        code = code ? code : queue_errors(stream, replay.graph->errors);
    if (code)
        return cuda_status(device, code, "reading the step's errors");
    if (const moira_status status = wait(stream, "waiting for the device"))
        return status;
    if (stream.error.code == MOIRA_ERROR_NONE)
        stream.error = first_error_of_step(stream);
    stream.errors.used = 0;
    stream.replays.clear();
    return MOIRA_OK;
}

moira_status cuda_stream_create(moira_device* device, moira_stream** stream) {
    if (!device || !stream)
        return report(MOIRA_INVALID_ARGUMENT, "a stream needs a device and a place for its address");
    if (const moira_status status = enter_device(*device))
        return status;
    auto* created = create_object<moira_stream>(*device->host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for a stream");
    created->device = device;
    if (const int code = make_stream(*created)) {
        take_apart(*created);
        destroy_object(*device->host, created);
        return cuda_status(*device, code, "creating a stream");
    }
    const std::scoped_lock lock(device->streams_mutex);
    device->streams.push_back(created);
    *stream = created;
    return MOIRA_OK;
}

void cuda_stream_destroy(moira_stream* stream) {
    if (!stream)
        return;
    moira_device& device = *stream->device;
    {
        const std::scoped_lock lock(device.streams_mutex);
        std::erase(device.streams, stream);
    }
    if (stream->recording) {
        moira_graph* graph = nullptr;
        stream->recording->spoilt = true;
        (void)cuda_graph_end(stream, &graph);
    }
    take_apart(*stream);
    destroy_object(*device.host, stream);
}

moira_status cuda_stream_synchronize(moira_stream* stream) {
    if (!stream)
        return report(MOIRA_INVALID_ARGUMENT, "stream_synchronize needs a stream");
    if (const moira_status status = refuse_recording(*stream, "waiting"))
        return status;
    if (const moira_status status = enter_device(*stream->device))
        return status;
    if (const moira_status status = collect_errors(*stream))
        return status;
    if (stream->error.code == MOIRA_ERROR_NONE)
        return MOIRA_OK;
    return report(MOIRA_STEP_ERROR, "op %u met error %u at row %d, detail %d", stream->error.op, stream->error.code,
                  stream->error.row, stream->error.detail);
}

moira_status cuda_stream_error(moira_stream* stream, moira_error_word* word) {
    if (!stream || !word)
        return report(MOIRA_INVALID_ARGUMENT, "stream_error needs a stream and a place for the word");
    *word = stream->error;
    stream->error = {};
    return MOIRA_OK;
}

// ---- copies --------------------------------------------------------------------------------------------------------

namespace {

moira_status check_copy(moira_stream* stream, const void* to, const void* from, uint64_t bytes) {
    if (!stream || ((!to || !from) && bytes > 0))
        return report(MOIRA_INVALID_ARGUMENT, "a copy needs a stream and two addresses");
    if (const moira_status status = refuse_recording(*stream, "a copy"))
        return status;
    return enter_device(*stream->device);
}

moira_status queue_copy(moira_stream& stream, void* to, const void* from, uint64_t bytes, const char* doing) {
    const int code = stream.device->calls->copy(to, from, bytes, stream.stream);
    return code ? cuda_status(*stream.device, code, doing) : MOIRA_OK;
}

// A place for `bytes` in the ring, whose earlier readers are done.
moira_status take_staging(moira_stream& stream, uint64_t bytes, char** place) {
    staging_ring& ring = stream.uploads;
    const cuda_calls& calls = *stream.device->calls;
    if (ring.used + bytes > staging_ring::part_bytes) {
        if (const int code = calls.event_record(ring.events[ring.part], stream.stream))
            return cuda_status(*stream.device, code, "recording an event of the staging memory");
        ring.part = (ring.part + 1) % staging_ring::parts;
        ring.used = 0;
        // An event that was never recorded counts as done.
        if (const int code = calls.event_synchronize(ring.events[ring.part]))
            return cuda_status(*stream.device, code, "waiting for staging memory");
    }
    *place = ring.memory + ring.part * staging_ring::part_bytes + ring.used;
    constexpr uint64_t line = 64;
    ring.used += (bytes + line - 1) / line * line;
    return MOIRA_OK;
}

} // namespace

moira_status cuda_copy_to_device(moira_stream* stream, void* to, const void* from, uint64_t bytes) {
    if (const moira_status status = check_copy(stream, to, from, bytes))
        return status;
    if (bytes == 0)
        return MOIRA_OK;
    if (bytes > staged_copy_bytes_max)
        return queue_copy(*stream, to, from, bytes, "copying to the device");
    char* place = nullptr;
    if (const moira_status status = take_staging(*stream, bytes, &place))
        return status;
    std::memcpy(place, from, bytes);
    return queue_copy(*stream, to, place, bytes, "copying to the device");
}

moira_status cuda_copy_to_host(moira_stream* stream, void* to, const void* from, uint64_t bytes) {
    if (const moira_status status = check_copy(stream, to, from, bytes))
        return status;
    if (bytes == 0)
        return MOIRA_OK;
    if (bytes > staged_copy_bytes_max)
        return queue_copy(*stream, to, from, bytes, "copying from the device");
    if (stream->downloads_used + bytes > moira_stream::download_bytes)
        if (const moira_status status = wait(*stream, "waiting for copies from the device"))
            return status;
    char* place = stream->downloads + stream->downloads_used;
    if (const moira_status status = queue_copy(*stream, place, from, bytes, "copying from the device"))
        return status;
    stream->deliveries.push_back({to, place, bytes});
    stream->downloads_used += bytes;
    return MOIRA_OK;
}

} // namespace moira
