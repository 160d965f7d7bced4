#pragma once

#include "core/base/error.hpp"
#include "core/execute/device_graph.hpp"
#include "core/execute/op_provider.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// Activations and packed weights begin on a cache line, so that vector loads never straddle two.
inline constexpr std::uint64_t device_alignment = 64;

/// The plugin's last words as an error. `doing` says what was tried.
error plugin_error(const op_provider& provider, moira_status status, const std::string& doing);

/// Memory of its own that a device has.
struct device_memory {
    std::uint64_t bytes_total = 0, bytes_free = 0;
};

/// None: it computes in the host's memory. Errors: device_error.
result<std::optional<device_memory>> memory_of(const op_provider& provider);

/// Device memory. Move-only; borrows the provider.
class device_buffer {
public:
    /// Zero bytes give an empty buffer without an address. Errors: out_of_memory, device_error.
    static result<device_buffer> create(const op_provider& provider, std::uint64_t bytes,
                                        std::uint64_t alignment = device_alignment);

    /// The same in host memory that the device's copy engine reads and writes beside the processor; the address is one
    /// of the host.
    static result<device_buffer> create_page_locked(const op_provider& provider, std::uint64_t bytes,
                                                    std::uint64_t alignment = device_alignment);

    device_buffer() = default;
    device_buffer(device_buffer&& other) noexcept;
    device_buffer& operator=(device_buffer&& other) noexcept;
    ~device_buffer();

    std::uint64_t bytes() const noexcept { return bytes_; }

    template <class T>
    T* as() const noexcept {
        return static_cast<T*>(address_);
    }

private:
    result<device_buffer> own(const op_provider& provider, moira_status status, std::uint64_t bytes,
                              const char* what) &&;

    const op_provider* provider_ = nullptr;
    moira_buffer* buffer_ = nullptr;
    void* address_ = nullptr;
    std::uint64_t bytes_ = 0;
};

/// An op that a plugin has checked and prepared for its maxima. Owned by the op_set; stable address.
struct prepared_op {
    const op_provider* provider = nullptr;
    moira_op* op = nullptr;
    std::uint32_t kind = 0;
    std::string numerics_id;
    std::vector<std::byte> desc_bytes;  ///< the moira_*_desc of its kind

    const moira_op_header& desc() const noexcept { return *reinterpret_cast<const moira_op_header*>(desc_bytes.data()); }
};

/// One op with its arguments, which must live until launch() returns.
struct bound_launch {
    const prepared_op* op = nullptr;
    const void* args = nullptr;
};

/// Sees the ops of a queue one by one, each with the time from its launch to its end. For measuring: ops that are watched
/// do not overlap. Called on the thread that launches.
class launch_watch {
public:
    virtual ~launch_watch() = default;
    virtual void launched(const bound_launch& launch, double seconds) = 0;
};

/// One in-order queue over all chosen plugins of a device class: a stream per plugin, switched with a synchronisation.
/// Not thread-safe: belongs to whoever runs the step.
class device_queue {
public:
    static result<device_queue> create(const op_provider& memory);

    device_queue(device_queue&&) noexcept;
    device_queue& operator=(device_queue&&) noexcept;
    ~device_queue();

    /// Runs the list in order. Errors: device_error.
    result<void> launch(std::initializer_list<bound_launch> list) { return launch(list.begin(), list.size()); }
    result<void> launch(const bound_launch* list, std::size_t count);

    /// From now on every launch is watched; null: none.
    void watch(launch_watch* watch) noexcept { watch_ = watch; }
    bool watched() const noexcept { return watch_ != nullptr; }

    /// What is launched from now on is recorded and not run, until end_graph(), which is to follow whatever happens.
    /// Only launches may be recorded, all of one plugin. Errors: unsupported (no graphs there), device_error.
    result<void> begin_graph();
    result<device_graph> end_graph();

    /// Replays it, in order with everything else.
    result<void> launch(const device_graph& graph);

    result<void> upload(void* device_address, const void* host_address, std::uint64_t bytes);
    result<void> download(void* host_address, const void* device_address, std::uint64_t bytes);

    /// Waits for everything so far; fails when a kernel set the step's error word. Errors: device_error with the op,
    /// the row and the meaning.
    result<void> synchronize();

private:
    explicit device_queue(const op_provider& memory);
    result<moira_stream*> stream_of(const op_provider& provider);
    result<void> switch_to(const op_provider& provider);
    result<void> launch_run(const bound_launch* list, std::size_t count);
    result<void> launch_watched(const bound_launch* list, std::size_t count);
    result<void> synchronize_stream(const op_provider& provider, moira_stream* stream);

    const op_provider* memory_ = nullptr;
    const op_provider* current_ = nullptr;
    launch_watch* watch_ = nullptr;
    std::map<const op_provider*, moira_stream*> streams_;
};

/// Prepares ops once per distinct descriptor and remembers what every plugin said about them.
class op_set {
public:
    explicit op_set(const op_selector& selector);
    ~op_set();
    op_set(const op_set&) = delete;
    op_set& operator=(const op_set&) = delete;

    /// `Desc` is a moira_*_desc as op_describer makes it. Errors: op_missing, device_error.
    template <class Desc>
    result<const prepared_op*> prepare(const Desc& desc) {
        return prepare_header(desc.header);
    }

    std::uint64_t workspace_bytes() const noexcept { return workspace_bytes_; }

    /// op name -> plugin, for replies and start-up messages.
    std::map<std::string, std::string> plugins() const;

    /// What a hash can be compared within: the numerics of all ops used.
    std::string numerics_id() const;

private:
    result<const prepared_op*> prepare_header(const moira_op_header& header);

    const op_selector* selector_;
    std::map<std::string, std::unique_ptr<prepared_op>> ops_;  ///< by the descriptor's bytes
    std::uint64_t workspace_bytes_ = 0;
};

}  // namespace moira
