#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace moira {

/// Where slabs come from: reads one expert from the checkpoint and packs it for the kernels. Called by loader threads,
/// several at a time; each passes scratch memory of its own.
class slab_source {
public:
    virtual ~slab_source() = default;

    /// Bytes that load() writes, and their alignment.
    virtual std::uint64_t slab_bytes() const noexcept = 0;

    /// Scratch that load() needs, page-aligned (4,096).
    virtual std::uint64_t scratch_bytes() const noexcept = 0;

    /// Fills `slab`. Errors: io_error (retried by the store a bounded number of times), corrupt_file.
    virtual result<void> load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) = 0;

    /// Bytes read from disk per expert, for the counters.
    virtual std::uint64_t disk_bytes() const noexcept = 0;

    /// How it reads and why, for the log: "buffered: 11 MiB of experts fit in memory". May change when a file system
    /// refuses what was planned; empty: nothing to say.
    virtual std::string description() const { return {}; }
};

} // namespace moira
