#pragma once

#include "core/execute/op_provider.hpp"
#include "plugins/conformance/test_data.hpp"

#include <deque>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace moira {

/// Weights in a plugin's own layout, on its device.
struct packed_weight {
    const void* address = nullptr;
    std::uint32_t layout_id = 0;
};

/// One stream of one device with the buffers of one experiment. A call that fails is remembered with its words, and
/// everything after it does nothing, so that experiments read straight through and ask once, at the end. Results are
/// guarded: bytes behind a buffer that a kernel overwrites are found by finish().
class device_session {
public:
    explicit device_session(const op_provider& provider);
    ~device_session();
    device_session(const device_session&) = delete;
    device_session& operator=(const device_session&) = delete;

    /// A device buffer with these bytes; 64-byte aligned unless more is asked for. Never null while nothing failed.
    void* upload_bytes(const void* bytes, std::uint64_t count, std::uint64_t alignment = 64);
    template <class T>
    T* upload(const std::vector<T>& values) {
        return static_cast<T*>(upload_bytes(values.data(), values.size() * sizeof(T)));
    }
    /// A device buffer for results, filled with NaN.
    float* reserve(std::uint64_t floats) { return upload(std::vector<float>(floats, nan)); }
    std::int32_t* reserve_ids(std::uint64_t count) { return upload(std::vector<std::int32_t>(count, -1)); }

    /// Waits for the stream. Errors: the words of failure().
    template <class T>
    std::vector<T> download(const T* address, std::uint64_t count) {
        std::vector<T> values(count);
        download_bytes(values.data(), address, count * sizeof(T));
        return values;
    }

    packed_weight pack(const moira_pack_desc& desc, std::span<const moira_pack_source> sources);

    /// `workspace` gets the address that the op's arguments need.
    const moira_op* prepare(const moira_op_header& desc, void** workspace);
    void launch(const std::vector<moira_launch>& list);
    /// Prepares, launches and waits. `args` is the op's *_args; give its workspace field, or null.
    template <class Args>
    moira_error_word run(const moira_op_header& desc, Args& args, void** workspace = nullptr) {
        void* ignored = nullptr;
        const moira_op* op = prepare(desc, workspace ? workspace : &ignored);
        launch({{op, &args}});
        return finish();
    }
    /// Waits, checks the guards, and takes the error word.
    moira_error_word finish();

    bool failed() const noexcept { return !failure_.empty(); }
    const std::string& failure() const noexcept { return failure_; }
    const op_provider& provider() const noexcept { return provider_; }

private:
    static constexpr float nan = std::numeric_limits<float>::quiet_NaN();

    struct allocation {
        moira_buffer* buffer;
        std::byte* address;
        std::uint64_t bytes;
    };

    bool check(moira_status status, const char* call);
    void download_bytes(void* to, const void* from, std::uint64_t bytes);
    void check_guards();

    const op_provider& provider_;
    const moira_plugin_api& api_;
    moira_stream* stream_ = nullptr;
    std::vector<allocation> allocations_;
    std::vector<moira_op*> ops_;
    std::deque<std::vector<std::byte>> in_flight_; // host memory of queued copies
    std::string failure_;
};

} // namespace moira
