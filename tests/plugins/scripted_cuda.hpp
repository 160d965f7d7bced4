// A CUDA runtime for tests, which has host memory for a device and runs what a stream has queued when it is waited for.
#pragma once

#include "plugins/cuda_runtime/cuda_calls.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace moira {

struct scripted_stream {
    std::deque<std::function<void()>> queue;
};

/// What the machine has, and what goes wrong. One at a time, see scripted_cuda().
struct scripted_machine {
    std::vector<cuda_description> devices;
    int count_code = 0;                   ///< what asking for the number of devices returns
    std::map<std::string, int> fail_next; ///< call -> code that its next call returns
    std::map<std::string, int> calls;     ///< how often each call came
    std::map<void*, std::uint64_t> device_memory;
    std::map<void*, std::uint64_t> host_memory;
    std::map<void*, scripted_stream> streams;
    std::map<void*, std::shared_ptr<bool>> events; ///< of the last record: whether it is done
    int pools = 0;
    const cublas_calls* library = nullptr; ///< cuBLASLt, when it is there
    bool capturing = false;
    int spoilt_captures = 0; ///< calls that a capture does not survive, or must not record
    std::vector<std::function<void()>> captured;
    std::map<void*, std::vector<std::function<void()>>> graphs;

    bool nothing_left() const {
        return device_memory.empty() && host_memory.empty() && streams.empty() && events.empty() && pools == 0 &&
               graphs.empty();
    }
    void run(void* stream);
    void queue(void* stream, std::function<void()> work);
};

scripted_machine& scripted_cuda();
const cuda_calls& scripted_cuda_calls();

} // namespace moira
