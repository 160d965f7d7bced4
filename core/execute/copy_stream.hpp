#pragma once

#include "core/base/error.hpp"
#include "core/execute/op_provider.hpp"

#include <cstdint>

namespace moira {

/// A stream that only copies into device memory, beside the queue that computes. One thread at a time. Move-only;
/// borrows the provider.
class copy_stream {
public:
    /// Errors: device_error, out_of_memory.
    static result<copy_stream> create(const op_provider& device);

    copy_stream(copy_stream&& other) noexcept;
    copy_stream& operator=(copy_stream&& other) noexcept;
    ~copy_stream();

    /// Copies from page-locked host memory and returns when the bytes are on the device: whatever is launched from then
    /// on, on any stream, finds them. What has been launched before must not touch the range any more. After an error
    /// no copy is under way. Errors: device_error.
    result<void> copy(void* device_address, const void* host_address, std::uint64_t bytes);

private:
    explicit copy_stream(const op_provider& device) : device_(&device) {}
    moira_status queue(void* device_address, const void* host_address, std::uint64_t bytes);
    moira_status wait();

    const op_provider* device_;
    moira_stream* stream_ = nullptr;
    moira_event* copied_ = nullptr;
};

} // namespace moira
