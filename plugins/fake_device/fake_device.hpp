// Inside the fake device. Objects of the border derive from the ones that the CPU plugins share, so that the reference
// kernels run on them.
#pragma once

#include "plugins/cpu_plugin/cpu_plugin.hpp"
#include "plugins/fake_device/fake_device.h"

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
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

struct fake_device : moira_device {
    std::recursive_mutex mutex; // held by every call: one device, one lock
    bool lost = false;
    uint64_t latency_us = 0;
    fault_counter launch_fault;
    fault_counter loss;
    fault_counter buffer_fault;
    std::vector<injected_error> errors;
    std::vector<moira_fake_call> calls;
    std::map<uintptr_t, uint64_t> memory; // address -> bytes of every live buffer
    std::map<uintptr_t, uint64_t> host_memory;
    uint64_t memory_bytes = uint64_t{1} << 40; // more than any test needs; set_memory_bytes makes it small
    std::vector<fake_stream*> streams;
    uint64_t live_objects = 0;

    bool owns(const void* address, uint64_t bytes) const;
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
    std::variant<queued_copy, queued_op, queued_record, queued_wait> work;
};

struct fake_stream : moira_stream {
    std::deque<queued> queue;
    uint64_t last_position = 0;
    std::chrono::steady_clock::time_point busy_until{};
    moira_status failure = MOIRA_OK; // of work that ran, until the next synchronize

    fake_device& owner() const { return *static_cast<fake_device*>(device); }
};

template <class Work>
uint64_t enqueue(fake_stream& stream, Work work, uint64_t latency_us) {
    stream.busy_until =
        std::max(stream.busy_until, std::chrono::steady_clock::now()) + std::chrono::microseconds(latency_us);
    stream.queue.push_back({++stream.last_position, stream.busy_until, std::move(work)});
    return stream.last_position;
}

// Runs what is queued up to `position`; with `wait`, sleeps until it is due, otherwise stops at the first that is not.
void run_queue(fake_stream& stream, uint64_t position, bool wait);

// Copies the arguments of one launch and refuses addresses outside device memory. OK or INVALID_ARGUMENT.
moira_status take_args(const fake_device& device, const moira_launch& launch, any_op_args& args);

// Rows of a launch, or pairs.
uint64_t launch_amount(uint32_t op, const any_op_args& args);

} // namespace moira
