// Devices and memory.
#include "plugins/cuda_runtime/cuda_runtime.hpp"

#include <algorithm>

namespace moira {

namespace {

// What cudaMalloc and pools promise; more is made by hand.
constexpr uint64_t allocation_alignment = 256;

moira_status check_host(const moira_host* host, moira_device** device) {
    if (!host || !device || host->struct_size < sizeof *host)
        return report(MOIRA_INVALID_ARGUMENT,
                      "device_open needs a host table of at least %zu bytes and a place for the device", sizeof *host);
    if (host->abi_major != MOIRA_ABI_MAJOR)
        return report(MOIRA_UNSUPPORTED, "the host speaks ABI %u, this plugin %u", host->abi_major, MOIRA_ABI_MAJOR);
    return MOIRA_OK;
}

moira_status no_device(const cuda_calls& calls, int code) {
    return report(MOIRA_UNSUPPORTED, "CUDA finds no device: %s (cudaError %d)", calls.error_text(code), code);
}

// The index-th device, in CUDA's order, that the plugin's code runs on.
moira_status choose_device(const cuda_plugin& plugin, uint32_t index, int& ordinal, cuda_description& description) {
    const cuda_calls& calls = plugin.calls();
    int count = 0; // the call leaves it untouched when there is no driver
    if (const int code = calls.device_count(&count))
        return no_device(calls, code);
    uint32_t suited = 0;
    for (ordinal = 0; ordinal < count; ++ordinal) {
        if (const int code = calls.describe(ordinal, &description))
            return no_device(calls, code);
        if (plugin.runs_on(description.compute_major, description.compute_minor) && suited++ == index)
            return MOIRA_OK;
    }
    return report(MOIRA_UNSUPPORTED,
                  "%s needs %s: CUDA sees %d device%s, %u of them suited, and number %u was asked for", plugin.name,
                  plugin.requirement, count, count == 1 ? "" : "s", suited, index);
}

moira_status make_memory(moira_device& device) {
    const cuda_calls& calls = *device.calls;
    if (const int code = calls.select(device.ordinal))
        return cuda_status(device, code, "selecting the device");
    if (const int code = calls.stream_create(&device.memory_stream))
        return cuda_status(device, code, "creating the stream that orders memory");
    if (!device.description.pools_supported)
        return MOIRA_OK;
    const int code = calls.pool_create(device.ordinal, &device.pool);
    return code ? cuda_status(device, code, "creating the memory pool") : MOIRA_OK;
}

// Whatever runs or waits on any stream now comes before what the memory stream does next.
int order_after_streams(moira_device& device) {
    const cuda_calls& calls = *device.calls;
    void* event = nullptr;
    if (const int code = calls.event_create(&event))
        return code;
    int code = 0;
    const std::scoped_lock lock(device.streams_mutex);
    for (const moira_stream* stream : device.streams) {
        if ((code = calls.event_record(event, stream->stream)) ||
            (code = calls.event_wait(device.memory_stream, event)))
            break;
    }
    (void)calls.event_destroy(event); // a recorded event may go, its waits stay
    return code;
}

int allocate_on_device(moira_device& device, uint64_t bytes, void** allocation) {
    const cuda_calls& calls = *device.calls;
    if (const int code = calls.allocate(allocation, bytes, device.pool, device.memory_stream))
        return code;
    // Any stream may use it at once.
    return device.pool ? calls.stream_synchronize(device.memory_stream) : 0;
}

moira_status create_buffer(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer,
                           bool on_host) {
    if (!device || !buffer || bytes == 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
        return report(MOIRA_INVALID_ARGUMENT,
                      "a buffer needs a device, at least one byte and an alignment that is a power of two; found %llu "
                      "bytes, alignment %llu",
                      static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(alignment));
    if (const moira_status status = refuse_recordings(*device, "allocating"))
        return status;
    if (const moira_status status = enter_device(*device))
        return status;
    const uint64_t spare = alignment > allocation_alignment ? alignment - allocation_alignment : 0;
    if (bytes > UINT64_MAX - spare)
        return report(MOIRA_OUT_OF_MEMORY, "a buffer of %llu bytes does not exist",
                      static_cast<unsigned long long>(bytes));
    auto* created = create_object<moira_buffer>(*device->host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for a buffer's handle");
    void* allocation = nullptr;
    const int code = on_host ? device->calls->allocate_host(&allocation, bytes + spare)
                             : allocate_on_device(*device, bytes + spare, &allocation);
    if (code) {
        destroy_object(*device->host, created);
        return cuda_status(*device, code, on_host ? "allocating page-locked memory" : "allocating device memory");
    }
    const uintptr_t begin = reinterpret_cast<uintptr_t>(allocation);
    *created = {device, allocation, reinterpret_cast<void*>((begin + alignment - 1) & ~(uintptr_t{alignment} - 1)),
                on_host};
    *buffer = created;
    return MOIRA_OK;
}

} // namespace

moira_status cuda_status(moira_device& device, int code, const char* doing) {
    const char* words = device.calls->error_text(code);
    switch (cuda_outcome_of(code)) {
    case cuda_outcome::ok:
        return MOIRA_OK;
    case cuda_outcome::out_of_memory:
        return report(MOIRA_OUT_OF_MEMORY, "%s: %s", doing, words);
    case cuda_outcome::no_device:
    case cuda_outcome::lost:
        device.lost = true;
        return report(MOIRA_DEVICE_LOST,
                      "%s: %s (cudaError %d); nothing works on this device until the program starts again", doing,
                      words, code);
    default:
        return report(MOIRA_LAUNCH_FAILED, "%s: %s (cudaError %d)", doing, words, code);
    }
}

moira_status enter_device(moira_device& device) {
    if (device.lost)
        return report(MOIRA_DEVICE_LOST, "the device %s was lost before", device.description.name);
    const int code = device.calls->select(device.ordinal);
    return code ? cuda_status(device, code, "selecting the device") : MOIRA_OK;
}

moira_status cuda_device_open(const cuda_plugin& plugin, const moira_host* host, uint32_t index,
                              moira_device** device) {
    if (const moira_status status = check_host(host, device))
        return status;
    int ordinal = 0;
    cuda_description description{};
    if (const moira_status status = choose_device(plugin, index, ordinal, description))
        return status;
    auto* created = create_object<moira_device>(*host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for a device");
    created->host = host;
    created->plugin = &plugin;
    created->calls = &plugin.calls();
    created->ordinal = ordinal;
    created->description = description;
    if (const moira_status status = make_memory(*created)) {
        cuda_device_close(created);
        return status;
    }
    *device = created;
    return MOIRA_OK;
}

void cuda_device_close(moira_device* device) {
    if (!device)
        return;
    (void)device->calls->select(device->ordinal);
    close_library(device->library);
    if (device->memory_stream) {
        (void)device->calls->stream_synchronize(device->memory_stream);
        (void)device->calls->stream_destroy(device->memory_stream);
    }
    if (device->pool)
        (void)device->calls->pool_destroy(device->pool);
    destroy_object(*device->host, device);
}

moira_status cuda_buffer_create(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer) {
    return create_buffer(device, bytes, alignment, buffer, false);
}
moira_status cuda_host_buffer_create(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer) {
    return create_buffer(device, bytes, alignment, buffer, true);
}

void cuda_buffer_destroy(moira_buffer* buffer) {
    if (!buffer)
        return;
    moira_device& device = *buffer->device;
    const cuda_calls& calls = *device.calls;
    (void)refuse_recordings(device, "freeing memory");
    (void)calls.select(device.ordinal);
    // On a lost device all of these fail, and the driver frees everything with the process.
    if (buffer->on_host)
        (void)calls.release_host(buffer->allocation);
    else if (device.pool == nullptr)
        (void)calls.release(buffer->allocation, nullptr, nullptr); // waits for the device
    else if (order_after_streams(device) == 0)
        (void)calls.release(buffer->allocation, device.pool, device.memory_stream);
    destroy_object(*device.host, buffer);
}

moira_status cuda_memory_info(moira_device* device, moira_memory_info* info) {
    if (!device || !info || info->struct_size < sizeof *info)
        return report(MOIRA_INVALID_ARGUMENT,
                      "memory_info needs a device and a moira_memory_info with its struct_size");
    if (const moira_status status = enter_device(*device))
        return status;
    const int code = device->calls->memory_info(&info->bytes_free, &info->bytes_total);
    return code ? cuda_status(*device, code, "asking for the device's memory") : MOIRA_OK;
}

} // namespace moira
