// The table of the C interface: everything that touches a stream only queues.
#include "kernels/reference/reference_kernels.hpp"
#include "plugins/fake_device/fake_device.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

namespace moira {

const cpu_kernels& plugin_kernels() {
    static const cpu_kernels kernels = {
        .name = "fake_device",
        .requirement = "any processor",
        .numerics_id = "cpu-ref-f32",
        .score = 1,
        .features_required = 0,
        .weight_supported = reference_weight_supported,
        .packing = reference_packing(),
        .embedding = reference_embedding,
        .rmsnorm = reference_rmsnorm,
        .rope = reference_rope,
        .kv_append = reference_kv_append,
        .attention_gqa = reference_attention_gqa,
        .attention_mla = reference_attention_mla,
        .gemm = reference_gemm,
        .router_topk = reference_router_topk,
        .expert_ffn = reference_expert_ffn,
        .combine = reference_combine,
        .expert_groups = reference_expert_groups,
    };
    return kernels;
}

namespace {

// What fresh memory holds: NaN as a float, -1 as an integer.
constexpr int poison = 0xff;

fake_device& of(moira_device* device) {
    return *static_cast<fake_device*>(device);
}
fake_stream& of(moira_stream* stream) {
    return *static_cast<fake_stream*>(stream);
}
fake_event& of(moira_event* event) {
    return *static_cast<fake_event*>(event);
}

moira_status device_open(const moira_host* host, uint32_t index, moira_device** device) {
    if (!host || !device || host->struct_size < sizeof *host || host->abi_major != MOIRA_ABI_MAJOR || index != 0)
        return report(MOIRA_INVALID_ARGUMENT, "device_open needs this version's host table, index 0 and a place");
    auto* created = new (std::nothrow) fake_device;
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "no memory for a device");
    created->host = host;
    created->kernels = &plugin_kernels();
    created->team_size = std::max(1u, host->team_size(host->context));
    *device = created;
    return MOIRA_OK;
}

void device_close(moira_device* device) {
    if (!device)
        return;
    if (of(device).live_objects != 0)
        device->host->log(device->host->context, MOIRA_LOG_ERROR, "fake_device closed with live objects");
    delete &of(device);
}

moira_status create_buffer(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer,
                           bool on_host) {
    if (!device || !buffer || bytes == 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
        return report(MOIRA_INVALID_ARGUMENT, "a buffer needs a device, a byte and a power of two for alignment");
    fake_device& owner = of(device);
    return on_device(owner, [&] {
        if (const moira_status status = refuse_recordings(owner, "allocating"))
            return status;
        if (owner.buffer_fault.strikes())
            return owner.log(MOIRA_FAKE_BUFFER_CREATE, 0, bytes,
                             report(MOIRA_OUT_OF_MEMORY, "out of memory, as scripted"));
        if (!on_host && bytes > owner.memory_bytes - owner.memory_bytes_used())
            return owner.log(MOIRA_FAKE_BUFFER_CREATE, 0, bytes,
                             report(MOIRA_OUT_OF_MEMORY, "the device's memory is full"));
        auto created = std::make_unique<fake_buffer>();
        created->device = device;
        created->on_host = on_host;
        created->address = device->host->allocate(device->host->context, bytes, alignment);
        if (!created->address)
            return owner.log(MOIRA_FAKE_BUFFER_CREATE, 0, bytes, report(MOIRA_OUT_OF_MEMORY, "the host has no memory"));
        std::memset(created->address, poison, bytes);
        auto& kind = on_host ? owner.host_memory : owner.memory;
        kind.emplace(reinterpret_cast<uintptr_t>(created->address), fake_memory{bytes, ++owner.last_serial});
        ++owner.live_objects;
        *buffer = created.release();
        return owner.log(MOIRA_FAKE_BUFFER_CREATE, 0, bytes, MOIRA_OK);
    });
}

moira_status buffer_create(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer) {
    return create_buffer(device, bytes, alignment, buffer, false);
}
moira_status host_buffer_create(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer) {
    return create_buffer(device, bytes, alignment, buffer, true);
}

moira_status memory_info(moira_device* device, moira_memory_info* info) {
    if (!device || !info || info->struct_size < sizeof *info)
        return report(MOIRA_INVALID_ARGUMENT,
                      "memory_info needs a device and a moira_memory_info with its struct_size");
    return on_device(of(device), [&]() -> moira_status {
        info->bytes_total = of(device).memory_bytes;
        info->bytes_free = info->bytes_total - of(device).memory_bytes_used();
        return MOIRA_OK;
    });
}

void buffer_destroy(moira_buffer* buffer) {
    if (!buffer)
        return;
    fake_device& owner = of(buffer->device);
    const std::scoped_lock lock(owner.mutex);
    (void)refuse_recordings(owner, "freeing memory");
    // A GPU's free waits for the device: queued work may still read the buffer.
    for (fake_stream* stream : owner.streams)
        run_queue(*stream, stream->last_position, true);
    auto& kind = static_cast<fake_buffer*>(buffer)->on_host ? owner.host_memory : owner.memory;
    const auto at = kind.find(reinterpret_cast<uintptr_t>(buffer->address));
    if (!owner.lost)
        owner.hazards.freed(at->first, at->second.bytes);
    owner.log(MOIRA_FAKE_BUFFER_DESTROY, 0, at->second.bytes, MOIRA_OK);
    kind.erase(at);
    --owner.live_objects;
    owner.host->release(owner.host->context, buffer->address);
    delete static_cast<fake_buffer*>(buffer);
}

void* buffer_address(moira_buffer* buffer) {
    return buffer ? buffer->address : nullptr;
}

moira_status stream_create(moira_device* device, moira_stream** stream) {
    if (!device || !stream)
        return report(MOIRA_INVALID_ARGUMENT, "a stream needs a device and a place for its address");
    return on_device(of(device), [&]() -> moira_status {
        auto created = std::make_unique<fake_stream>();
        created->device = device;
        created->number = ++of(device).streams_made;
        of(device).streams.push_back(created.get());
        ++of(device).live_objects;
        *stream = created.release();
        return MOIRA_OK;
    });
}

void stream_destroy(moira_stream* stream) {
    if (!stream)
        return;
    fake_device& owner = of(stream->device);
    const std::scoped_lock lock(owner.mutex);
    run_queue(of(stream), of(stream).last_position, true);
    owner.hazards.seen(of(stream).clock);
    std::erase(owner.streams, &of(stream));
    --owner.live_objects;
    delete &of(stream);
}

moira_status stream_synchronize(moira_stream* stream) {
    if (!stream)
        return report(MOIRA_INVALID_ARGUMENT, "stream_synchronize needs a stream");
    fake_stream& queue = of(stream);
    return on_device(queue.owner(), [&] {
        if (const moira_status status = refuse_recording(queue, "waiting"))
            return status;
        run_queue(queue, queue.last_position, true);
        queue.owner().hazards.seen(queue.clock);
        forget_what_was_seen(queue.owner());
        const moira_status failure = std::exchange(queue.failure, MOIRA_OK);
        const moira_status status = failure != MOIRA_OK                    ? failure
                                    : queue.error.code != MOIRA_ERROR_NONE ? MOIRA_STEP_ERROR
                                                                           : MOIRA_OK;
        return queue.owner().log(MOIRA_FAKE_SYNCHRONIZE, 0, 0, status);
    });
}

moira_status stream_error(moira_stream* stream, moira_error_word* word) {
    if (!stream || !word)
        return report(MOIRA_INVALID_ARGUMENT, "stream_error needs a stream and a place for the word");
    return on_device(of(stream).owner(), [&]() -> moira_status {
        *word = std::exchange(stream->error, {});
        return MOIRA_OK;
    });
}

moira_status copy(moira_stream* stream, void* to, const void* from, uint64_t bytes, uint32_t kind) {
    if (!stream || ((!to || !from) && bytes > 0))
        return report(MOIRA_INVALID_ARGUMENT, "a copy needs a stream and two addresses");
    fake_device& owner = of(stream).owner();
    return on_device(owner, [&]() -> moira_status {
        if (const moira_status status = refuse_recording(of(stream), "a copy"))
            return status;
        const void* on_board = kind == MOIRA_FAKE_COPY_TO_DEVICE ? to : from;
        if (bytes > 0 && !owner.owns(on_board, bytes))
            return owner.log(kind, 0, bytes, report(MOIRA_INVALID_ARGUMENT, "a copy leaves its device buffer"));
        const bool upload = kind == MOIRA_FAKE_COPY_TO_DEVICE;
        if (upload && owner.copy_loss.strikes()) {
            owner.lost = true;
            return owner.log(kind, 0, bytes, lost());
        }
        if (upload && owner.copy_fault.strikes())
            return owner.log(kind, 0, bytes, report(MOIRA_LAUNCH_FAILED, "copy failed, as scripted"));
        if (bytes > 0)
            enqueue(of(stream), queued_copy{to, from, bytes}, owner.copy_latency_us);
        if (bytes > 0 && upload)
            watch(of(stream).queue.back().order, to, bytes, true, owner);
        return owner.log(kind, 0, bytes, MOIRA_OK);
    });
}

moira_status copy_to_device(moira_stream* stream, void* device_address, const void* host_address, uint64_t bytes) {
    return copy(stream, device_address, host_address, bytes, MOIRA_FAKE_COPY_TO_DEVICE);
}
moira_status copy_to_host(moira_stream* stream, void* host_address, const void* device_address, uint64_t bytes) {
    return copy(stream, host_address, device_address, bytes, MOIRA_FAKE_COPY_TO_HOST);
}

moira_status event_create(moira_device* device, moira_event** event) {
    if (!device || !event)
        return report(MOIRA_INVALID_ARGUMENT, "an event needs a device and a place for its address");
    return on_device(of(device), [&]() -> moira_status {
        auto created = std::make_unique<fake_event>();
        created->device = device;
        ++of(device).live_objects;
        *event = created.release();
        return MOIRA_OK;
    });
}

void event_destroy(moira_event* event) {
    if (!event)
        return;
    const std::scoped_lock lock(of(event->device).mutex);
    --of(event->device).live_objects;
    delete &of(event);
}

moira_status event_record(moira_stream* stream, moira_event* event) {
    if (!stream || !event)
        return report(MOIRA_INVALID_ARGUMENT, "event_record needs a stream and an event");
    return on_device(of(stream).owner(), [&] {
        if (const moira_status status = refuse_recording(of(stream), "an event"))
            return status;
        event_state& state = *of(event).state;
        state.stream = &of(stream);
        state.done = 0;
        state.recorded = enqueue(of(stream), queued_record{of(event).state}, 0);
        state.clock = of(stream).clock;
        return of(stream).owner().log(MOIRA_FAKE_EVENT_RECORD, 0, 0, MOIRA_OK);
    });
}

moira_status event_wait(moira_stream* stream, moira_event* event) {
    if (!stream || !event)
        return report(MOIRA_INVALID_ARGUMENT, "event_wait needs a stream and an event");
    return on_device(of(stream).owner(), [&] {
        if (const moira_status status = refuse_recording(of(stream), "an event"))
            return status;
        const auto& state = of(event).state;
        // An event that was never recorded counts as done; a stream is in order with itself.
        if (state->stream && state->stream != &of(stream)) {
            enqueue(of(stream), queued_wait{state, state->stream, state->recorded}, 0);
            join(of(stream).clock, state->clock);
        }
        return of(stream).owner().log(MOIRA_FAKE_EVENT_WAIT, 0, 0, MOIRA_OK);
    });
}

moira_status event_done(moira_event* event, uint32_t* done) {
    if (!event || !done)
        return report(MOIRA_INVALID_ARGUMENT, "event_done needs an event and a place for the answer");
    return on_device(of(event->device), [&]() -> moira_status {
        event_state& state = *of(event).state;
        const auto& streams = of(event->device).streams;
        const bool running = std::find(streams.begin(), streams.end(), state.stream) != streams.end();
        if (running)
            run_queue(*state.stream, state.recorded, false);
        *done = !running || state.done == state.recorded ? 1 : 0;
        if (*done)
            of(event->device).hazards.seen(state.clock);
        return of(event->device).lost ? lost() : MOIRA_OK;
    });
}

moira_status op_query(moira_device* device, const moira_op_header* desc, moira_op_support* support) {
    return device ? on_device(of(device), [&] { return query_op(device, desc, support); })
                  : report(MOIRA_INVALID_ARGUMENT, "op_query needs a device");
}

moira_status op_prepare(moira_device* device, const moira_op_header* desc, moira_op** op, uint64_t* workspace_bytes) {
    if (!device)
        return report(MOIRA_INVALID_ARGUMENT, "op_prepare needs a device");
    return on_device(of(device), [&] {
        if (const moira_status status = refuse_recordings(of(device), "preparing an op"))
            return status;
        const moira_status status = prepare_op(device, desc, op, workspace_bytes);
        if (status != MOIRA_OK)
            return status;
        of(device).ops[*op] = ++of(device).last_serial;
        ++of(device).live_objects;
        return status;
    });
}

void op_destroy(moira_op* op) {
    if (!op)
        return;
    const std::scoped_lock lock(of(op->device).mutex);
    (void)refuse_recordings(of(op->device), "destroying an op");
    --of(op->device).live_objects;
    of(op->device).ops.erase(op);
    destroy_op(op);
}

// All of the list or nothing of it.
moira_status enqueue_list(fake_stream& stream, const moira_launch* list, uint32_t count) {
    fake_device& owner = stream.owner();
    std::vector<queued_op> ops(count);
    for (uint32_t index = 0; index < count; ++index) {
        if (!list[index].op || !list[index].args || list[index].op->device != stream.device)
            return report(MOIRA_INVALID_ARGUMENT, "launch %u has no op of this device, or no arguments", index);
        ops[index].op = *list[index].op;
        if (const moira_status status = take_args(owner, list[index], ops[index].args))
            return status;
    }
    for (uint32_t index = 0; index < count; ++index) {
        const uint32_t kind = ops[index].op.desc.header.op;
        owner.log(MOIRA_FAKE_LAUNCH, kind, launch_amount(kind, ops[index].args), MOIRA_OK);
        if (stream.recording)
            record(stream, list[index], ops[index]);
        else
            enqueue(stream, ops[index], owner.latency_us);
    }
    return MOIRA_OK;
}

moira_status launch(moira_stream* stream, const moira_launch* list, uint32_t count) {
    if (!stream || (!list && count > 0))
        return report(MOIRA_INVALID_ARGUMENT, "launch needs a stream and a list");
    fake_device& owner = of(stream).owner();
    return on_device(owner, [&]() -> moira_status {
        if (const moira_status status = launch_faults(owner, MOIRA_FAKE_LAUNCH, count))
            return status;
        return enqueue_list(of(stream), list, count);
    });
}

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
                                               cpu_pack_query,
                                               cpu_pack,
                                               cpu_unpack,
                                               memory_info,
                                               host_buffer_create,
                                               fake_graph_begin,
                                               fake_graph_end,
                                               fake_graph_launch,
                                               fake_graph_destroy};

} // namespace

} // namespace moira

extern "C" __attribute__((visibility("default"))) moira_status moira_plugin_probe_v0(const moira_device_facts* facts,
                                                                                     moira_probe* probe) {
    if (!facts || !probe || facts->struct_size < sizeof *facts || probe->struct_size < sizeof *probe)
        return moira::report(MOIRA_INVALID_ARGUMENT, "probing needs facts and a probe, each with its struct_size");
    const uint64_t struct_size = probe->struct_size;
    *probe = moira_probe{};
    probe->struct_size = struct_size;
    probe->abi_major = MOIRA_ABI_MAJOR;
    probe->abi_minor = MOIRA_ABI_MINOR;
    probe->score = 1;
    std::snprintf(probe->name, sizeof probe->name, "fake_device");
    std::snprintf(probe->device_class, sizeof probe->device_class, "fake");
    std::snprintf(probe->reason, sizeof probe->reason, "a device for tests, which needs nothing");
    return MOIRA_OK;
}

extern "C" __attribute__((visibility("default"))) moira_status moira_plugin_open_v0(const moira_plugin_api** table) {
    if (!table)
        return moira::report(MOIRA_INVALID_ARGUMENT, "opening needs a place for the table's address");
    *table = &moira::plugin_api_table;
    return MOIRA_OK;
}
