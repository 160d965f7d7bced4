#pragma once

#include "core/execute/op_provider.hpp"

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace moira {

/// One stream of one device with the buffers of a measurement. As device_session, a failure is remembered and asked for
/// at the end; unlike it, nothing is guarded or kept on the host, so that gigabytes fit.
class speed_session {
public:
    explicit speed_session(const op_provider& provider);
    ~speed_session();
    speed_session(const speed_session&) = delete;
    speed_session& operator=(const speed_session&) = delete;

    /// A device buffer with these bytes, which are there when this returns. Never null while nothing failed.
    void* upload(const void* bytes, std::uint64_t count);
    template <class T>
    T* upload(const std::vector<T>& values) {
        return static_cast<T*>(upload(values.data(), values.size() * sizeof(T)));
    }

    bool supports(const moira_op_header& desc) const;
    /// Packed on the host.
    std::vector<std::byte> pack(const moira_pack_desc& desc, const std::vector<moira_pack_source>& sources,
                                std::uint32_t& layout_id);
    const moira_op* prepare(const moira_op_header& desc, void** workspace);

    /// Microseconds per launch, all arguments in turn, queued one behind the other for about `seconds`.
    template <class Args>
    double time_launches(const moira_op* op, const std::vector<Args>& args, double seconds) {
        std::vector<moira_launch> list;
        for (const Args& each : args)
            list.push_back({op, &each});
        return time_list(list, seconds);
    }
    /// Microseconds per copy of `bytes` from page-locked memory to the device, to several places in turn.
    double time_copies(const std::vector<std::byte>& bytes, double seconds);

    bool failed() const noexcept { return !failure_.empty(); }
    const std::string& failure() const noexcept { return failure_; }

private:
    bool check(moira_status status, const char* call);
    double time_list(const std::vector<moira_launch>& list, double seconds);
    /// Repeats queue() until about `seconds` are over, then waits; seconds per call of queue().
    template <class Queue>
    double time(double seconds, const Queue& queue);

    const op_provider& provider_;
    const moira_plugin_api& api_;
    moira_stream* stream_ = nullptr;
    std::vector<moira_buffer*> buffers_;
    std::vector<moira_op*> ops_;
    std::string failure_;
};

} // namespace moira
