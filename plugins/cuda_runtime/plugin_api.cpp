// The table of the C interface and the two exported functions.
#include "kernels/reference/reference_kernels.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"

#include <exception>

namespace moira {

namespace {

// Nothing throws on purpose; this keeps what a container might throw from crossing the border.
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

template <auto function, class... Parameters>
moira_status guard(Parameters... parameters) {
    return guarded([&] { return function(parameters...); });
}

moira_status device_open(const moira_host* host, uint32_t index, moira_device** device) {
    return guarded([&] { return cuda_device_open(this_cuda_plugin(), host, index, device); });
}

void* buffer_address(moira_buffer* buffer) {
    return buffer ? buffer->address : nullptr;
}

moira_status event_create(moira_device* device, moira_event** event) {
    if (!device || !event)
        return report(MOIRA_INVALID_ARGUMENT, "an event needs a device and a place for its address");
    if (const moira_status status = enter_device(*device))
        return status;
    auto* created = create_object<moira_event>(*device->host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for an event");
    created->device = device;
    if (const int code = device->calls->event_create(&created->event)) {
        destroy_object(*device->host, created);
        return cuda_status(*device, code, "creating an event");
    }
    *event = created;
    return MOIRA_OK;
}

void event_destroy(moira_event* event) {
    if (!event)
        return;
    moira_device& device = *event->device;
    (void)device.calls->select(device.ordinal);
    (void)device.calls->event_destroy(event->event);
    destroy_object(*device.host, event);
}

moira_status event_record(moira_stream* stream, moira_event* event) {
    if (!stream || !event)
        return report(MOIRA_INVALID_ARGUMENT, "event_record needs a stream and an event");
    if (const moira_status status = refuse_recording(*stream, "an event"))
        return status;
    if (const moira_status status = enter_device(*stream->device))
        return status;
    const int code = stream->device->calls->event_record(event->event, stream->stream);
    return code ? cuda_status(*stream->device, code, "recording an event") : MOIRA_OK;
}

moira_status event_wait(moira_stream* stream, moira_event* event) {
    if (!stream || !event)
        return report(MOIRA_INVALID_ARGUMENT, "event_wait needs a stream and an event");
    if (const moira_status status = refuse_recording(*stream, "an event"))
        return status;
    if (const moira_status status = enter_device(*stream->device))
        return status;
    const int code = stream->device->calls->event_wait(stream->stream, event->event);
    return code ? cuda_status(*stream->device, code, "waiting for an event") : MOIRA_OK;
}

moira_status event_done(moira_event* event, uint32_t* done) {
    if (!event || !done)
        return report(MOIRA_INVALID_ARGUMENT, "event_done needs an event and a place for the answer");
    if (const moira_status status = enter_device(*event->device))
        return status;
    const int code = event->device->calls->event_query(event->event);
    *done = code == 0 ? 1 : 0;
    return code == 0 || cuda_outcome_of(code) == cuda_outcome::not_ready
               ? MOIRA_OK
               : cuda_status(*event->device, code, "asking an event");
}

void op_destroy(moira_op* op) {
    if (!op)
        return;
    (void)refuse_recordings(*op->device, "destroying an op");
    destroy_object(*op->device->host, op);
}

moira_status without_device() {
    return report(MOIRA_INVALID_ARGUMENT, "packing needs a device");
}

// A library reads weights as they are stored; a descriptor that is too short is refused by whoever packs.
packing_kernels packing_for(const moira_device& device, const moira_pack_desc* desc) {
    const bool by_library = desc && desc->struct_size >= sizeof *desc && desc->compute == MOIRA_COMPUTE_LIBRARY;
    return by_library ? reference_packing() : device.plugin->kernels().packing;
}

moira_status pack_query(moira_device* device, const moira_pack_desc* desc, moira_pack_info* info) {
    return device ? query_packing(capabilities_of(*device->plugin), packing_for(*device, desc), desc, info)
                  : without_device();
}
moira_status pack(moira_device* device, const moira_pack_desc* desc, const moira_pack_source* sources, void* packed,
                  void*) {
    return device ? pack_weights(capabilities_of(*device->plugin), packing_for(*device, desc), desc, sources, packed)
                  : without_device();
}
moira_status unpack(moira_device* device, const moira_pack_desc* desc, const void* packed, void* const* weights,
                    void*) {
    return device ? unpack_weights(capabilities_of(*device->plugin), packing_for(*device, desc), desc, packed, weights)
                  : without_device();
}

constexpr moira_plugin_api plugin_api_table = {sizeof(moira_plugin_api),
                                               MOIRA_ABI_MAJOR,
                                               MOIRA_ABI_MINOR,
                                               copy_last_error,
                                               device_open,
                                               cuda_device_close,
                                               guard<cuda_buffer_create>,
                                               cuda_buffer_destroy,
                                               buffer_address,
                                               guard<cuda_stream_create>,
                                               cuda_stream_destroy,
                                               guard<cuda_stream_synchronize>,
                                               guard<cuda_stream_error>,
                                               guard<cuda_copy_to_device>,
                                               guard<cuda_copy_to_host>,
                                               guard<event_create>,
                                               event_destroy,
                                               guard<event_record>,
                                               guard<event_wait>,
                                               guard<event_done>,
                                               guard<cuda_op_query>,
                                               guard<cuda_op_prepare>,
                                               op_destroy,
                                               guard<cuda_launch_list>,
                                               guard<pack_query>,
                                               guard<pack>,
                                               guard<unpack>,
                                               guard<cuda_memory_info>,
                                               guard<cuda_host_buffer_create>,
                                               guard<cuda_graph_begin>,
                                               guard<cuda_graph_end>,
                                               guard<cuda_graph_launch>,
                                               cuda_graph_destroy};

} // namespace

} // namespace moira

extern "C" __attribute__((visibility("default"))) moira_status moira_plugin_probe_v0(const moira_device_facts* facts,
                                                                                     moira_probe* probe) {
    return moira::cuda_probe(moira::this_cuda_plugin(), facts, probe);
}

extern "C" __attribute__((visibility("default"))) moira_status moira_plugin_open_v0(const moira_plugin_api** table) {
    if (!table)
        return moira::report(MOIRA_INVALID_ARGUMENT, "opening needs a place for the table's address");
    *table = &moira::plugin_api_table;
    return MOIRA_OK;
}
