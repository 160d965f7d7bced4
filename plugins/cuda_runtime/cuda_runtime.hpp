// Everything of a CUDA plugin but its kernels: devices, memory, streams, events, ops and the table of the C interface.
// Each plugin compiles it in and supplies one cuda_plugin. No CUDA header: calls go through cuda_calls.
#pragma once

#include "kernels/cuda/cuda_kernels.hpp"
#include "plugins/cuda_runtime/cuda_calls.hpp"
#include "plugins/cuda_runtime/library_gemm.hpp"
#include "plugins/plugin_base/plugin_base.hpp"

#include <atomic>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace moira {

struct cuda_plugin {
    const char* name;
    const char* requirement; // "an NVIDIA GPU of compute capability 8.0 or newer"
    int32_t score;
    // Whether the plugin's code runs there: its own machine code, or what the driver can compile from it.
    bool (*runs_on)(uint32_t compute_major, uint32_t compute_minor);
    const cuda_kernels& (*kernels)();
    const cuda_calls& (*calls)();
};

// Supplied by each plugin (plugins/cuda_sm*/plugin.cpp).
const cuda_plugin& this_cuda_plugin();

// The bytes of moira::step_error_slot: row << 32 | code, row << 32 | detail; all ones: nothing happened.
struct error_slot_words {
    uint64_t row_code;
    uint64_t row_detail;
};

// A step of a model with 64 layers launches about 800 ops; what does not fit costs one synchronisation.
inline constexpr uint32_t error_slots = 2048;

// Where the kernels of a step, or of a graph, report their errors: one slot per op, in the order of the list.
struct error_list {
    error_slot_words* slots = nullptr; // device memory
    error_slot_words* seen = nullptr;  // page-locked copy
    uint32_t used = 0;
    uint32_t ops[error_slots] = {}; // MOIRA_OP_* of each used slot
};

// Copies up to this size go through page-locked staging memory, so that they neither block nor read memory that the
// caller changes afterwards; larger ones are worth the driver's own path (see staging.cpp).
inline constexpr uint64_t staged_copy_bytes_max = 64 * 1024;

} // namespace moira

struct moira_device {
    const moira_host* host;
    const moira::cuda_plugin* plugin;
    const moira::cuda_calls* calls;
    int ordinal;
    moira::cuda_description description;
    void* pool = nullptr;          // null where stream-ordered allocation is not supported
    void* memory_stream = nullptr; // orders allocations and releases
    std::atomic<bool> lost{false};
    std::mutex streams_mutex;
    std::vector<moira_stream*> streams; // releases wait for them
    moira::library_gemm library;        // opened when the first op asks for it
};

struct moira_buffer {
    moira_device* device;
    void* allocation;
    void* address; // aligned within the allocation
    bool on_host;
};

namespace moira {

// Page-locked memory that small copies pass through, as a ring of parts; a part is used again when the copies that
// read it are done.
struct staging_ring {
    static constexpr uint32_t parts = 4;
    static constexpr uint64_t part_bytes = 256 * 1024;
    char* memory = nullptr;
    void* events[parts] = {};
    uint32_t part = 0;
    uint64_t used = 0; // of the part
};

// A small copy to the host that has landed in staging memory and is delivered when the stream is synchronised.
struct staged_delivery {
    void* to;
    const void* from;
    uint64_t bytes;
};

// A graph among the launches of a step: behind so many ops of the stream's own list.
struct graph_replay {
    moira_graph* graph;
    uint32_t behind;
};

} // namespace moira

struct moira_graph {
    moira_stream* stream;
    void* graph = nullptr; // null while it is recorded
    moira::error_list errors;
    bool spoilt = false; // by something that a graph cannot hold
    std::thread::id recorder;
};

struct moira_stream {
    moira_device* device;
    void* stream = nullptr;
    moira_error_word error = {};              // the first of the step
    moira::error_list errors;                 // of launches outside graphs
    std::vector<moira::graph_replay> replays; // of the step
    moira_graph* recording = nullptr;         // between graph_begin and graph_end; changes under streams_mutex
    moira::staging_ring uploads;
    char* downloads = nullptr; // page-locked, download_bytes
    uint64_t downloads_used = 0;
    std::vector<moira::staged_delivery> deliveries;
    static constexpr uint64_t download_bytes = 1024 * 1024;
};

struct moira_event {
    moira_device* device;
    void* event;
};

struct moira_op {
    moira_device* device;
    moira::any_op_desc desc;
    uint32_t expert_layout_id;
    uint64_t workspace_bytes;
    const moira::library_product* library; // of the device; null: by the plugin's own kernel
};

namespace moira {

// Turns a failed call into a status with words; a device that is lost stays lost. `doing`: "copying to the device".
moira_status cuda_status(moira_device& device, int code, const char* doing);
// Refuses on a lost device and makes the device the calling thread's.
moira_status enter_device(moira_device& device);

// Host memory for one plugin object, through the host's allocator; nullptr when there is none.
template <class T>
T* create_object(const moira_host& host) {
    void* memory = host.allocate(host.context, sizeof(T), alignof(T));
    return memory ? new (memory) T{} : nullptr;
}
template <class T>
void destroy_object(const moira_host& host, T* object) {
    object->~T();
    host.release(host.context, object);
}

// What the plugin takes, as far as descriptors can ask.
op_capabilities capabilities_of(const cuda_plugin& plugin);

// The C interface, see moira_plugin.h.
moira_status cuda_device_open(const cuda_plugin& plugin, const moira_host* host, uint32_t index, moira_device** device);
void cuda_device_close(moira_device* device);
moira_status cuda_buffer_create(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer);
moira_status cuda_host_buffer_create(moira_device* device, uint64_t bytes, uint64_t alignment, moira_buffer** buffer);
void cuda_buffer_destroy(moira_buffer* buffer);
moira_status cuda_memory_info(moira_device* device, moira_memory_info* info);
moira_status cuda_stream_create(moira_device* device, moira_stream** stream);
void cuda_stream_destroy(moira_stream* stream);
moira_status cuda_stream_synchronize(moira_stream* stream);
moira_status cuda_stream_error(moira_stream* stream, moira_error_word* word);
moira_status cuda_copy_to_device(moira_stream* stream, void* to, const void* from, uint64_t bytes);
moira_status cuda_copy_to_host(moira_stream* stream, void* to, const void* from, uint64_t bytes);
moira_status cuda_op_query(moira_device* device, const moira_op_header* desc, moira_op_support* support);
moira_status cuda_op_prepare(moira_device* device, const moira_op_header* desc, moira_op** op,
                             uint64_t* workspace_bytes);
moira_status cuda_launch_list(moira_stream* stream, const moira_launch* list, uint32_t count);
moira_status cuda_graph_begin(moira_stream* stream);
moira_status cuda_graph_end(moira_stream* stream, moira_graph** graph);
moira_status cuda_graph_launch(moira_stream* stream, moira_graph* graph);
void cuda_graph_destroy(moira_graph* graph);
moira_status cuda_probe(const cuda_plugin& plugin, const moira_device_facts* facts, moira_probe* probe);
// Of the ops [begin, end) of a list whose slots were copied: the first error, or code 0.
moira_error_word first_error(const error_list& list, uint32_t begin, uint32_t end);
// Reads what the step's slots hold into stream.error and empties them. Waits for the stream.
moira_status collect_errors(moira_stream& stream);
// Returns a cudaError_t; what was made is left for release_errors.
int make_errors(const cuda_calls& calls, error_list& list, void* stream);
void release_errors(const cuda_calls& calls, const error_list& list);
// Refuses what a stream that records a graph may not be asked, and spoils the graph. OK when it records none.
moira_status refuse_recording(moira_stream& stream, const char* what);
// The same for what touches the whole device, by the thread that records.
moira_status refuse_recordings(moira_device& device, const char* what);

} // namespace moira
