// The device's side: runs what a stream has queued.
#include "plugins/fake_device/fake_device.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

namespace moira {

namespace {

void inject(fake_stream& stream, uint32_t op) {
    for (injected_error& error : stream.owner().errors) {
        if (error.op == op && error.counter.strikes() && stream.error.code == MOIRA_ERROR_NONE)
            stream.error = {MOIRA_ERROR_INJECTED, op, -1, 0};
    }
}

// A slab outside device memory would be an illegal access, after which a GPU does nothing more.
bool experts_on_device(const fake_device& device, const moira_expert_ffn_args& args, uint32_t experts) {
    for (uint32_t index = 0; index < expert_group_count(args); ++index) {
        const moira_expert_group& group = args.group_table[index];
        if (group.pair_count == 0 || group.expert >= experts)
            continue;
        const auto* slab = reinterpret_cast<const void*>(uintptr_t{args.table[group.expert].address});
        if (slab && !device.owns(slab, 1))
            return false;
    }
    return true;
}

/// Bytes of one expert as the op reads it.
uint64_t slab_bytes_of(moira_device& device, const moira_expert_ffn_desc& desc) {
    moira_pack_desc packed{};
    packed.struct_size = sizeof packed;
    packed.kind = MOIRA_PACK_EXPERT;
    packed.n = desc.inner;
    packed.k = desc.hidden;
    packed.compute = MOIRA_COMPUTE_AUTO;
    packed.quantization = desc.quantization;
    moira_pack_info info{};
    info.struct_size = sizeof info;
    return cpu_pack_query(&device, &packed, &info) == MOIRA_OK ? info.packed_bytes : 1;
}

void watch_experts(fake_device& device, const queued_op& queued, const memory_access& order) {
    const moira_expert_ffn_args& args = queued.args.expert_ffn;
    const moira_expert_ffn_desc& desc = queued.op.desc.expert_ffn;
    const uint64_t slab_bytes = slab_bytes_of(device, desc);
    for (uint32_t index = 0; index < args.groups; ++index) {
        const moira_expert_group& group = args.group_table[index];
        if (group.pair_count == 0 || group.expert >= desc.experts)
            continue;
        const moira_expert_entry& entry = args.table[group.expert];
        watch(order, &entry, sizeof entry, false, device);
        if (entry.address != 0)
            watch(order, reinterpret_cast<const void*>(uintptr_t{entry.address}), slab_bytes, false, device);
    }
}

void run(const queued_copy& copy) {
    std::memcpy(copy.to, copy.from, copy.bytes);
}

void run(fake_stream& stream, const queued_op& queued, const memory_access& order) {
    fake_device& device = stream.owner();
    const uint32_t op = queued.op.desc.header.op;
    moira_status status = MOIRA_OK;
    if (op == MOIRA_OP_EXPERT_FFN &&
        !experts_on_device(device, queued.args.expert_ffn, queued.op.desc.expert_ffn.experts)) {
        device.lost = true;
        status = report(MOIRA_DEVICE_LOST, "expert_ffn read an expert outside device memory");
    } else {
        if (op == MOIRA_OP_EXPERT_FFN)
            watch_experts(device, queued, order);
        const moira_launch launch{&queued.op, &queued.args};
        status = launch_list(&stream, &launch, 1);
    }
    if (stream.failure == MOIRA_OK)
        stream.failure = status;
    inject(stream, op);
    device.log(MOIRA_FAKE_EXECUTE, op, launch_amount(op, queued.args), status);
}

void run(const queued_record& record, uint64_t position) {
    record.event->done = position;
}

void run(fake_stream& stream, const queued_wait& wait) {
    const auto& streams = stream.owner().streams;
    // A stream that is gone has run all its work.
    if (std::find(streams.begin(), streams.end(), wait.stream) != streams.end())
        run_queue(*wait.stream, wait.position, true);
}

} // namespace

void watch(memory_access order, const void* begin, uint64_t bytes, bool writes, fake_device& device) {
    order.begin = reinterpret_cast<uintptr_t>(begin);
    order.bytes = bytes;
    order.writes = writes;
    device.hazards.add(std::move(order));
}

void forget_what_was_seen(fake_device& device) {
    if (std::all_of(device.streams.begin(), device.streams.end(),
                    [](const fake_stream* stream) { return stream->queue.empty(); }))
        device.hazards.forget_seen();
}

void run_queue(fake_stream& stream, uint64_t position, bool wait) {
    fake_device& device = stream.owner();
    while (!stream.queue.empty() && stream.queue.front().position <= position && !device.lost) {
        const auto due = stream.queue.front().due;
        if (!wait && due > std::chrono::steady_clock::now())
            return;
        std::this_thread::sleep_until(due);
        const queued next = std::move(stream.queue.front());
        stream.queue.pop_front();
        if (const auto* record = std::get_if<queued_record>(&next.work))
            run(*record, next.position);
        else if (const auto* copy = std::get_if<queued_copy>(&next.work))
            run(*copy);
        else if (const auto* op = std::get_if<queued_op>(&next.work))
            run(stream, *op, next.order);
        else
            run(stream, std::get<queued_wait>(next.work));
    }
    if (device.lost)
        stream.queue.clear();
}

} // namespace moira
