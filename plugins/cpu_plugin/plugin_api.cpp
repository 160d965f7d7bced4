// The table of the C interface and the two exported functions. Device, buffers, streams and events of a CPU are small:
// memory is the host's, and everything is done when a call returns.
#include "plugins/cpu_plugin/cpu_plugin.hpp"

#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

namespace moira {

namespace {

// Nothing in a plugin throws on purpose; this keeps what a library might throw from crossing the border.
template <class Function>
moira_status guarded(const Function& function) noexcept {
    try {
        return function();
    } catch (const std::bad_alloc&) {
        return report(MOIRA_OUT_OF_MEMORY, "out of memory inside the plugin");
    } catch (const std::exception& error) {
        return report(MOIRA_LAUNCH_FAILED, "unexpected exception inside the plugin: %s", error.what());
    } catch (...) {
        return report(MOIRA_LAUNCH_FAILED, "unexpected exception inside the plugin");
    }
}

moira_status device_open(const moira_host* host, uint32_t index, moira_device** device) {
    if (!host || !device || host->struct_size < sizeof *host)
        return report(MOIRA_INVALID_ARGUMENT,
                      "device_open needs a host table of at least %zu bytes and a place for the "
                      "device",
                      sizeof *host);
    if (host->abi_major != MOIRA_ABI_MAJOR)
        return report(MOIRA_UNSUPPORTED, "the host speaks ABI %u, this plugin %u", host->abi_major, MOIRA_ABI_MAJOR);
    if (index != 0)
        return report(MOIRA_INVALID_ARGUMENT, "there is one CPU device, index 0; found %u", index);
    auto* created = create_object<moira_device>(*host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for a device");
    const uint32_t team_size = host->team_size(host->context);
    *created = {host, &plugin_kernels(), team_size == 0 ? 1 : team_size};
    *device = created;
    return MOIRA_OK;
}

void device_close(moira_device* device) {
    if (device)
        device->host->release(device->host->context, device);
}

moira_status buffer_create(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer) {
    if (!device || !buffer || bytes == 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
        return report(MOIRA_INVALID_ARGUMENT,
                      "a buffer needs a device, at least one byte and an alignment that is a "
                      "power of two; found %llu bytes, alignment %llu",
                      static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(alignment));
    const moira_host& host = *device->host;
    auto* created = create_object<moira_buffer>(host);
    void* memory = created ? host.allocate(host.context, bytes, alignment) : nullptr;
    if (!memory) {
        if (created)
            host.release(host.context, created);
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for a buffer of %llu bytes",
                      static_cast<unsigned long long>(bytes));
    }
    *created = {device, memory};
    *buffer = created;
    return MOIRA_OK;
}

void buffer_destroy(moira_buffer* buffer) {
    if (!buffer)
        return;
    buffer->device->host->release(buffer->device->host->context, buffer->address);
    destroy_object(buffer);
}

void* buffer_address(moira_buffer* buffer) {
    return buffer ? buffer->address : nullptr;
}

template <class T>
moira_status create_on(moira_device* device, T** object, const char* what) {
    if (!device || !object)
        return report(MOIRA_INVALID_ARGUMENT, "a %s needs a device and a place for its address", what);
    *object = create_object<T>(*device->host);
    if (!*object)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for a %s", what);
    (*object)->device = device;
    return MOIRA_OK;
}

moira_status stream_create(moira_device* device, moira_stream** stream) {
    return create_on(device, stream, "stream");
}
void stream_destroy(moira_stream* stream) {
    destroy_object(stream);
}

moira_status stream_synchronize(moira_stream* stream) {
    if (!stream)
        return report(MOIRA_INVALID_ARGUMENT, "stream_synchronize needs a stream");
    if (stream->error.code == MOIRA_ERROR_NONE)
        return MOIRA_OK;
    return report(MOIRA_STEP_ERROR, "op %u met error %u at row %d, detail %d", stream->error.op, stream->error.code,
                  stream->error.row, stream->error.detail);
}

moira_status stream_error(moira_stream* stream, moira_error_word* word) {
    if (!stream || !word)
        return report(MOIRA_INVALID_ARGUMENT, "stream_error needs a stream and a place for the word");
    *word = stream->error;
    stream->error = {};
    return MOIRA_OK;
}

moira_status copy(moira_stream* stream, void* to, const void* from, uint64_t bytes) {
    if (!stream || ((!to || !from) && bytes > 0))
        return report(MOIRA_INVALID_ARGUMENT, "a copy needs a stream and two addresses");
    if (bytes > 0)
        std::memcpy(to, from, bytes);
    return MOIRA_OK;
}

moira_status copy_to_device(moira_stream* stream, void* device_address, const void* host_address, uint64_t bytes) {
    return copy(stream, device_address, host_address, bytes);
}
moira_status copy_to_host(moira_stream* stream, void* host_address, const void* device_address, uint64_t bytes) {
    return copy(stream, host_address, device_address, bytes);
}

moira_status event_create(moira_device* device, moira_event** event) {
    return create_on(device, event, "event");
}
void event_destroy(moira_event* event) {
    destroy_object(event);
}

moira_status event_record(moira_stream* stream, moira_event* event) {
    return stream && event ? MOIRA_OK : report(MOIRA_INVALID_ARGUMENT, "event_record needs a stream and an event");
}
moira_status event_wait(moira_stream* stream, moira_event* event) {
    return stream && event ? MOIRA_OK : report(MOIRA_INVALID_ARGUMENT, "event_wait needs a stream and an event");
}
moira_status event_done(moira_event* event, uint32_t* done) {
    if (!event || !done)
        return report(MOIRA_INVALID_ARGUMENT, "event_done needs an event and a place for the answer");
    *done = 1; // what was launched before the record has returned
    return MOIRA_OK;
}

moira_status op_query(moira_device* device, const moira_op_header* desc, moira_op_support* support) {
    return guarded([&] { return query_op(device, desc, support); });
}
moira_status op_prepare(moira_device* device, const moira_op_header* desc, moira_op** op, uint64_t* workspace_bytes) {
    return guarded([&] { return prepare_op(device, desc, op, workspace_bytes); });
}
void op_destroy(moira_op* op) {
    destroy_op(op);
}
moira_status launch(moira_stream* stream, const moira_launch* list, uint32_t count) {
    return guarded([&] { return launch_list(stream, list, count); });
}
moira_status pack_query(moira_device* device, const moira_pack_desc* desc, moira_pack_info* info) {
    return guarded([&] { return cpu_pack_query(device, desc, info); });
}
moira_status pack(moira_device* device, const moira_pack_desc* desc, const moira_pack_source* sources, void* packed,
                  void* scratch) {
    return guarded([&] { return cpu_pack(device, desc, sources, packed, scratch); });
}
moira_status unpack(moira_device* device, const moira_pack_desc* desc, const void* packed, void* const* weights,
                    void* scratch) {
    return guarded([&] { return cpu_unpack(device, desc, packed, weights, scratch); });
}

moira_status memory_info(moira_device* device, moira_memory_info* info) {
    if (!device || !info || info->struct_size < sizeof *info)
        return report(MOIRA_INVALID_ARGUMENT,
                      "memory_info needs a device and a moira_memory_info with its struct_size");
    info->bytes_total = 0; // computes where the host keeps everything
    info->bytes_free = 0;
    return MOIRA_OK;
}

// Launches are calls here: a recorded list would save nothing.
moira_status graph_begin(moira_stream*) {
    return report(MOIRA_UNSUPPORTED, "there are no graphs on a CPU");
}
moira_status graph_end(moira_stream*, moira_graph**) {
    return report(MOIRA_UNSUPPORTED, "there are no graphs on a CPU");
}
moira_status graph_launch(moira_stream*, moira_graph*) {
    return report(MOIRA_UNSUPPORTED, "there are no graphs on a CPU");
}
void graph_destroy(moira_graph*) {}

constexpr moira_plugin_api plugin_api_table = {sizeof(moira_plugin_api),
                                               MOIRA_ABI_MAJOR,
                                               MOIRA_ABI_MINOR,
                                               copy_last_error,
                                               device_open,
                                               device_close,
                                               buffer_create,
                                               buffer_destroy,
                                               buffer_address,
                                               stream_create,
                                               stream_destroy,
                                               stream_synchronize,
                                               stream_error,
                                               copy_to_device,
                                               copy_to_host,
                                               event_create,
                                               event_destroy,
                                               event_record,
                                               event_wait,
                                               event_done,
                                               op_query,
                                               op_prepare,
                                               op_destroy,
                                               launch,
                                               pack_query,
                                               pack,
                                               unpack,
                                               memory_info,
                                               buffer_create,
                                               graph_begin,
                                               graph_end,
                                               graph_launch,
                                               graph_destroy};

} // namespace

} // namespace moira

extern "C" __attribute__((visibility("default"))) moira_status moira_plugin_probe_v0(const moira_device_facts* facts,
                                                                                     moira_probe* probe) {
    if (!facts || !probe || facts->struct_size < sizeof *facts || probe->struct_size < sizeof *probe)
        return moira::report(MOIRA_INVALID_ARGUMENT, "probing needs facts and a probe, each with its struct_size");
    const moira::cpu_kernels& kernels = moira::plugin_kernels();
    const uint64_t struct_size = probe->struct_size;
    const bool able = (facts->cpu_features & kernels.features_required) == kernels.features_required;
    *probe = moira_probe{};
    probe->struct_size = struct_size;
    probe->abi_major = MOIRA_ABI_MAJOR;
    probe->abi_minor = MOIRA_ABI_MINOR;
    probe->score = able ? kernels.score : 0;
    std::snprintf(probe->name, sizeof probe->name, "%s", kernels.name);
    std::snprintf(probe->device_class, sizeof probe->device_class, "cpu");
    std::snprintf(probe->reason, sizeof probe->reason,
                  able ? "the processor has what it needs: %s" : "the processor lacks something of: %s",
                  kernels.requirement);
    return MOIRA_OK;
}

extern "C" __attribute__((visibility("default"))) moira_status moira_plugin_open_v0(const moira_plugin_api** table) {
    if (!table)
        return moira::report(MOIRA_INVALID_ARGUMENT, "opening needs a place for the table's address");
    *table = &moira::plugin_api_table;
    return MOIRA_OK;
}
