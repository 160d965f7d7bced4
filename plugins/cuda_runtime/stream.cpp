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
    if (code || (code = calls.allocate(&memory, error_slots * slot_bytes, nullptr, nullptr)))
        return code;
    stream.slots = static_cast<error_slot_words*>(memory);
    if ((code = calls.allocate_host(&memory, error_slots * slot_bytes)))
        return code;
    stream.slots_seen = static_cast<error_slot_words*>(memory);
    if ((code = calls.allocate_host(&memory, staging_ring::parts * staging_ring::part_bytes)))
        return code;
    stream.uploads.memory = static_cast<char*>(memory);
    if ((code = calls.allocate_host(&memory, moira_stream::download_bytes)))
        return code;
    stream.downloads = static_cast<char*>(memory);
    for (void*& event : stream.uploads.events)
        if ((code = calls.event_create(&event)))
            return code;
    return calls.fill(stream.slots, slot_empty, error_slots * slot_bytes, stream.stream);
}

void take_apart(moira_stream& stream) {
    const cuda_calls& calls = *stream.device->calls;
    (void)calls.select(stream.device->ordinal);
    if (stream.stream)
        (void)calls.stream_synchronize(stream.stream);
    for (void* event : stream.uploads.events)
        if (event)
            (void)calls.event_destroy(event);
    for (void* memory : {static_cast<void*>(stream.slots_seen), static_cast<void*>(stream.uploads.memory),
                         static_cast<void*>(stream.downloads)})
        if (memory)
            (void)calls.release_host(memory);
    if (stream.slots)
        (void)calls.release(stream.slots, nullptr, nullptr);
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

} // namespace

moira_error_word first_error(const error_slot_words* slots, const uint32_t* ops, uint32_t used) {
    for (uint32_t index = 0; index < used; ++index) {
        const uint64_t word = slots[index].row_code;
        if (word == UINT64_MAX)
            continue;
        return {uint32_t(word), ops[index], int32_t(uint32_t(word >> 32)), int32_t(uint32_t(slots[index].row_detail))};
    }
    return {};
}

moira_status collect_errors(moira_stream& stream) {
    moira_device& device = *stream.device;
    const uint64_t bytes = stream.slots_used * slot_bytes;
    if (bytes > 0) {
        if (const int code = device.calls->copy(stream.slots_seen, stream.slots, bytes, stream.stream))
            return cuda_status(device, code, "reading the step's errors");
        // Queued behind the copy: the slots are empty for the next step.
        if (const int code = device.calls->fill(stream.slots, slot_empty, bytes, stream.stream))
            return cuda_status(device, code, "clearing the step's errors");
    }
    if (const moira_status status = wait(stream, "waiting for the device"))
        return status;
    if (stream.error.code == MOIRA_ERROR_NONE)
        stream.error = first_error(stream.slots_seen, stream.slot_ops, stream.slots_used);
    stream.slots_used = 0;
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
    take_apart(*stream);
    destroy_object(*device.host, stream);
}

moira_status cuda_stream_synchronize(moira_stream* stream) {
    if (!stream)
        return report(MOIRA_INVALID_ARGUMENT, "stream_synchronize needs a stream");
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

moira_status check_copy(const moira_stream* stream, const void* to, const void* from, uint64_t bytes) {
    if (!stream || ((!to || !from) && bytes > 0))
        return report(MOIRA_INVALID_ARGUMENT, "a copy needs a stream and two addresses");
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
