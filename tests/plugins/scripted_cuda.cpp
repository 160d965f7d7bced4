#include "tests/plugins/scripted_cuda.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

namespace moira {

scripted_machine& scripted_cuda() {
    static scripted_machine machine;
    return machine;
}

void scripted_machine::run(void* stream) {
    const auto found = streams.find(stream);
    if (found == streams.end())
        return;
    auto& queue_of = found->second.queue;
    while (!queue_of.empty()) {
        const auto work = std::move(queue_of.front());
        queue_of.pop_front();
        work();
    }
}

void scripted_machine::queue(void* stream, std::function<void()> work) {
    if (capturing)
        captured.push_back(std::move(work));
    else
        streams[stream].queue.push_back(std::move(work));
}

namespace {

scripted_machine& machine() {
    return scripted_cuda();
}

/// Counts the call; the code that the script wants, or 0.
int come(const char* call) {
    ++machine().calls[call];
    static const std::set<std::string> outside = {"allocate",     "allocate_host",      "release",
                                                  "release_host", "stream_synchronize", "copy",
                                                  "fill",         "event_record",       "event_wait"};
    if (machine().capturing && outside.count(call) == 1)
        ++machine().spoilt_captures;
    const auto found = machine().fail_next.find(call);
    if (found == machine().fail_next.end())
        return 0;
    const int code = found->second;
    machine().fail_next.erase(found);
    return code;
}

void* handle() {
    static std::uintptr_t next = 0x1000;
    return reinterpret_cast<void*>(next += 16);
}

int take(std::map<void*, std::uint64_t>& memory, void** address, std::uint64_t bytes, int code) {
    if (code)
        return code;
    *address = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(*address, 0xff, bytes);
    memory[*address] = bytes;
    return 0;
}
int give_back(std::map<void*, std::uint64_t>& memory, void* address, int code) {
    if (memory.erase(address) == 1)
        std::free(address);
    return code;
}

void finish_all() {
    for (auto& [stream, state] : machine().streams)
        machine().run(stream);
}

constexpr cuda_calls calls = {
    .error_text = [](int code) { return code == 35 ? "driver version is insufficient" : "scripted error"; },
    .device_count =
        [](int* count) {
            if (machine().count_code == 0)
                *count = static_cast<int>(machine().devices.size());
            return machine().count_code;
        },
    .describe =
        [](int ordinal, cuda_description* description) {
            *description = machine().devices.at(static_cast<std::size_t>(ordinal));
            return come("describe");
        },
    .select = [](int) { return come("select"); },
    .memory_info =
        [](std::uint64_t* left, std::uint64_t* total) {
            *total = machine().devices.at(0).memory_bytes;
            *left = *total / 2;
            return come("memory_info");
        },
    .pool_create =
        [](int, void** pool) {
            const int code = come("pool_create");
            if (code == 0) {
                *pool = handle();
                ++machine().pools;
            }
            return code;
        },
    .pool_destroy =
        [](void*) {
            --machine().pools;
            return come("pool_destroy");
        },
    .allocate = [](void** address, std::uint64_t bytes, void*,
                   void*) { return take(machine().device_memory, address, bytes, come("allocate")); },
    .release =
        [](void* address, void*, void* stream) {
            if (stream)
                machine().run(stream);
            else
                finish_all();
            return give_back(machine().device_memory, address, come("release"));
        },
    .allocate_host =
        [](void** address, std::uint64_t bytes) {
            return take(machine().host_memory, address, bytes, come("allocate_host"));
        },
    .release_host = [](void* address) { return give_back(machine().host_memory, address, come("release_host")); },
    .stream_create =
        [](void** stream) {
            const int code = come("stream_create");
            if (code == 0)
                machine().streams[*stream = handle()];
            return code;
        },
    .stream_destroy =
        [](void* stream) {
            machine().streams.erase(stream);
            return come("stream_destroy");
        },
    .stream_synchronize =
        [](void* stream) {
            const int code = come("stream_synchronize");
            if (code == 0)
                machine().run(stream);
            return code;
        },
    .copy =
        [](void* to, const void* from, std::uint64_t bytes, void* stream) {
            const int code = come("copy");
            if (code == 0)
                machine().queue(stream, [=] { std::memcpy(to, from, bytes); });
            return code;
        },
    .fill =
        [](void* address, int byte, std::uint64_t bytes, void* stream) {
            const int code = come("fill");
            if (code == 0)
                machine().queue(stream, [=] { std::memset(address, byte, bytes); });
            return code;
        },
    .event_create =
        [](void** event) {
            const int code = come("event_create");
            if (code == 0)
                machine().events[*event = handle()] = std::make_shared<bool>(true); // never recorded: done
            return code;
        },
    .event_destroy =
        [](void* event) {
            machine().events.erase(event);
            return come("event_destroy");
        },
    // A new record does not change what an earlier wait waits for, and an event may be destroyed while it is waited
    // for.
    .event_record =
        [](void* event, void* stream) {
            const auto done = std::make_shared<bool>(false);
            machine().events[event] = done;
            machine().queue(stream, [=] { *done = true; });
            return come("event_record");
        },
    .event_wait =
        [](void* stream, void* event) {
            const auto done = machine().events[event];
            machine().queue(stream, [=] {
                for (auto& [other, state] : machine().streams)
                    if (other != stream && !*done)
                        machine().run(other);
            });
            return come("event_wait");
        },
    .event_query =
        [](void* event) {
            const int code = come("event_query");
            return code ? code : *machine().events[event] ? 0 : 600;
        },
    .event_synchronize =
        [](void* event) {
            if (!*machine().events[event])
                finish_all();
            return come("event_synchronize");
        },
    .capture_begin =
        [](void*) {
            const int code = come("capture_begin");
            machine().capturing = code == 0;
            machine().captured.clear();
            return code;
        },
    .capture_end =
        [](void*, void** graph) {
            machine().capturing = false;
            const int code = come("capture_end");
            if (code == 0)
                machine().graphs[*graph = handle()] = machine().captured;
            return code;
        },
    .graph_launch =
        [](void* graph, void* stream) {
            const int code = come("graph_launch");
            if (code == 0)
                for (const auto& work : machine().graphs[graph])
                    machine().queue(stream, work);
            return code;
        },
    .graph_destroy =
        [](void* graph) {
            machine().graphs.erase(graph);
            return come("graph_destroy");
        },
    .copy_rows =
        [](void* to, std::uint64_t to_stride, const void* from, std::uint64_t from_stride, std::uint64_t row_bytes,
           std::uint64_t rows, void* stream) {
            const int code = come("copy_rows");
            if (code == 0)
                machine().queue(stream, [=] {
                    for (std::uint64_t row = 0; row < rows; ++row)
                        std::memcpy(static_cast<char*>(to) + row * to_stride,
                                    static_cast<const char*>(from) + row * from_stride, row_bytes);
                });
            return code;
        },
    .load_library = [](char* reason, std::uint64_t reason_bytes) -> const cublas_calls* {
        ++machine().calls["load_library"];
        if (!machine().library)
            std::snprintf(reason, reason_bytes, "the scripted machine has no cuBLASLt");
        return machine().library;
    },
};

} // namespace

const cuda_calls& scripted_cuda_calls() {
    return calls;
}

} // namespace moira
