// Inside the fake device. Objects of the border derive from the ones that the CPU plugins share, so that the reference
// kernels run on them.
#pragma once

#include "plugins/cpu_plugin/cpu_plugin.hpp"
#include "plugins/fake_device/fake_device.h"
#include "plugins/fake_device/hazards.hpp"

#include <chrono>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <variant>
#include <vector>

namespace moira {

struct fake_stream;

// Counts down to the call that fails.
struct fault_counter {
    uint32_t left = 0;
    bool strikes() { return left != 0 && --left == 0; }
};

struct injected_error {
    uint32_t op;
    fault_counter counter;
};

// Serial numbers tell what was destroyed from what was created later at the same address.
struct fake_memory {
    uint64_t bytes;
    uint64_t serial;
};

struct fake_device : moira_device {
    std::recursive_mutex mutex; // held by every call: one device, one lock
    bool lost = false;
    uint64_t latency_us = 0;
    uint64_t copy_latency_us = 0;
    fault_counter launch_fault;
    fault_counter loss;
    fault_counter buffer_fault;
    fault_counter copy_fault;
    fault_counter copy_loss;
    std::vector<injected_error> errors;
    std::vector<moira_fake_call> calls;
    uint64_t last_serial = 0;
    std::map<uintptr_t, fake_memory> memory; // every live buffer, by address
    std::map<uintptr_t, fake_memory> host_memory;
    std::map<const moira_op*, uint64_t> ops;   // live ones -> serial
    uint64_t memory_bytes = uint64_t{1} << 40; // more than any test needs; set_memory_bytes makes it small
    std::vector<fake_stream*> streams;
    uint64_t live_objects = 0;
    hazard_watch hazards;
    uint64_t streams_made = 0;
    uint64_t work_queued = 0;

    bool owns(const void* address, uint64_t bytes) const;
    uint64_t serial_of(const void* address) const; // of the buffer around it; 0: there is none
    uint64_t memory_bytes_used() const;
    moira_status log(uint32_t kind, uint32_t op, uint64_t amount, moira_status status);
};

struct fake_buffer : moira_buffer {
    bool on_host = false;
};

// Shared by the handle and the queued record: the handle may be destroyed first.
struct event_state {
    fake_stream* stream = nullptr;
    uint64_t recorded = 0; // position in the stream of the last record, 0: never
    uint64_t done = 0;     // the last one that has run
    stream_clock clock;    // what the last record comes behind
};

struct fake_event : moira_event {
    std::shared_ptr<event_state> state = std::make_shared<event_state>();
};

union any_op_args {
    moira_embedding_args embedding;
    moira_rmsnorm_args rmsnorm;
    moira_rope_args rope;
    moira_kv_append_args kv_append;
    moira_attention_args attention;
    moira_gemm_args gemm;
    moira_router_topk_args router_topk;
    moira_expert_ffn_args expert_ffn;
    moira_combine_args combine;
    moira_expert_groups_args expert_groups;
};

struct queued_copy {
    void* to;
    const void* from;
    uint64_t bytes;
};
struct queued_op {
    moira_op op; // a copy: the handle may be destroyed first
    any_op_args args;
};
struct queued_record {
    std::shared_ptr<event_state> event;
};
struct queued_wait {
    std::shared_ptr<event_state> event;
    fake_stream* stream;
    uint64_t position;
};

struct queued {
    uint64_t position; // from 1, one more for each
    std::chrono::steady_clock::time_point due;
    memory_access order; // when it runs in the eyes of the hazard watch
    std::variant<queued_copy, queued_op, queued_record, queued_wait> work;
};

// One launch of a graph, with what it names.
struct recorded_op {
    queued_op work;
    const moira_op* handle;
    uint64_t serial;
    std::vector<std::pair<const void*, uint64_t>> memory; // address, serial
};

struct fake_recording {
    std::thread::id thread = std::this_thread::get_id();
    std::vector<recorded_op> ops;
    bool spoilt = false; // by something that a graph cannot hold
};

struct fake_stream : moira_stream {
    std::unique_ptr<fake_recording> recording; // between graph_begin and graph_end
    std::deque<queued> queue;
    uint64_t last_position = 0;
    std::chrono::steady_clock::time_point busy_until{};
    moira_status failure = MOIRA_OK; // of work that ran, until the next synchronize
    uint64_t number = 0;
    stream_clock clock; // what the next work comes behind

    fake_device& owner() const { return *static_cast<fake_device*>(device); }
};

inline moira_status lost() {
    return report(MOIRA_DEVICE_LOST, "the fake device was lost");
}

// Takes the device's lock, refuses when it is lost, and keeps exceptions inside.
template <class Function>
moira_status on_device(fake_device& device, const Function& function) noexcept {
    try {
        const std::scoped_lock lock(device.mutex);
        return device.lost ? lost() : function();
    } catch (const std::bad_alloc&) {
        return report(MOIRA_OUT_OF_MEMORY, "out of memory inside the plugin");
    } catch (const std::exception& error) {
        return report(MOIRA_LAUNCH_FAILED, "unexpected exception inside the plugin: %s", error.what());
    }
}

template <class Work>
uint64_t enqueue(fake_stream& stream, Work work, uint64_t latency_us) {
    stream.busy_until =
        std::max(stream.busy_until, std::chrono::steady_clock::now()) + std::chrono::microseconds(latency_us);
    fake_device& device = stream.owner();
    join(stream.clock, device.hazards.host());
    memory_access order{stream.number, ++stream.last_position, ++device.work_queued, stream.clock, 0, 0, false};
    stream.clock[stream.number] = stream.last_position;
    stream.queue.push_back({stream.last_position, stream.busy_until, std::move(order), std::move(work)});
    return stream.last_position;
}

// Writes an access down with the order of the work that does it.
void watch(memory_access order, const void* begin, uint64_t bytes, bool writes, fake_device& device);

// Where nothing is queued, see hazard_watch::forget_seen.
void forget_what_was_seen(fake_device& device);

// Runs what is queued up to `position`; with `wait`, sleeps until it is due, otherwise stops at the first that is not.
void run_queue(fake_stream& stream, uint64_t position, bool wait);

// Copies the arguments of one launch and refuses addresses outside device memory. OK or INVALID_ARGUMENT.
moira_status take_args(const fake_device& device, const moira_launch& launch, any_op_args& args);

// The device addresses among the arguments, as far as they are given.
std::vector<const void*> addresses_of(uint32_t op, const any_op_args& args);

// OK, or what a launch call meets as scripted.
moira_status launch_faults(fake_device& device, uint32_t kind, uint64_t amount);

// Refuses what a stream that records may not be asked, and spoils the recording. OK when it records nothing.
moira_status refuse_recording(fake_stream& stream, const char* what);
// The same for what touches the whole device, by the thread that records.
moira_status refuse_recordings(fake_device& device, const char* what);
void record(fake_stream& stream, const moira_launch& launch, queued_op work);

moira_status fake_graph_begin(moira_stream* stream);
moira_status fake_graph_end(moira_stream* stream, moira_graph** graph);
moira_status fake_graph_launch(moira_stream* stream, moira_graph* graph);
void fake_graph_destroy(moira_graph* graph);

// Rows of a launch, or pairs.
uint64_t launch_amount(uint32_t op, const any_op_args& args);

} // namespace moira

struct moira_graph {
    moira::fake_stream* stream;
    std::vector<moira::recorded_op> ops;
};
