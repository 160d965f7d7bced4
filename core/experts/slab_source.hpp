#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace moira {

/// Where slabs come from: reads one expert from the checkpoint and packs it for the kernels, or fetches it from a slower
/// tier. Called by loader threads, several at a time; each passes scratch memory of its own. `slab` is a range of the
/// store's slot memory: on a device, an address for its copy engine and nothing that may be read or written here.
class slab_source {
public:
    virtual ~slab_source() = default;

    /// Bytes that load() writes, and their alignment.
    virtual std::uint64_t slab_bytes() const noexcept = 0;

    /// Scratch that load() needs, page-aligned (4,096).
    virtual std::uint64_t scratch_bytes() const noexcept = 0;

    /// Fills `slab`. Errors: io_error (retried by the store a bounded number of times), corrupt_file.
    virtual result<void> load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) = 0;

    /// Whether load() has tried again itself what can be better the second time.
    virtual bool retries_itself() const noexcept { return false; }

    /// Whether load() also comes in two halves, so that the link is free for the next read while a slab is packed.
    virtual bool reads_apart() const noexcept { return false; }

    /// The first half: brings the expert's bytes into `scratch`. Errors: io_error. Only where reads_apart().
    virtual result<void> read(expert_id expert, std::span<std::byte> scratch) {
        static_cast<void>(expert), static_cast<void>(scratch);
        return fail(errc::internal, "this expert source reads and packs at once");
    }

    /// The second half: fills `slab` from what read() left in `scratch`. Errors: corrupt_file, device_error. Only where
    /// reads_apart().
    virtual result<void> pack(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) {
        static_cast<void>(expert), static_cast<void>(slab), static_cast<void>(scratch);
        return fail(errc::internal, "this expert source reads and packs at once");
    }

    /// Bytes read per expert, for the counters: from disk, or from the slower tier.
    virtual std::uint64_t disk_bytes() const noexcept = 0;

    /// How it reads and why, for the log: "buffered: 11 MiB of experts fit in memory". May change when a file system
    /// refuses what was planned; empty: nothing to say.
    virtual std::string description() const { return {}; }
};

} // namespace moira
