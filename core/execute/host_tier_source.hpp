#pragma once

#include "core/execute/copy_stream.hpp"
#include "core/experts/expert_store.hpp"
#include "core/experts/slab_source.hpp"

#include <cstdint>
#include <mutex>
#include <vector>

namespace moira {

/// What a store on a device loads from: a store in host memory, which keeps an expert pinned while it is copied and
/// reads it from its own source first where it is absent. Loads run beside each other, each with a copy stream of its
/// own.
///
/// A load holds one lease of one expert for as long as the copy takes and asks for no other, so any number of them get
/// along with any number of slots.
class host_tier_source final : public slab_source {
public:
    /// `host`, whose slots are page-locked, and `device` outlive the source.
    host_tier_source(expert_store& host, const op_provider& device, std::uint64_t slab_bytes);

    std::uint64_t slab_bytes() const noexcept override { return slab_bytes_; }
    std::uint64_t scratch_bytes() const noexcept override { return 0; }
    std::uint64_t disk_bytes() const noexcept override { return slab_bytes_; }
    bool retries_itself() const noexcept override { return true; }

    /// Errors: those of expert_lease::wait_some, device_error.
    result<void> load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) override;

private:
    result<copy_stream> take_stream();

    expert_store& host_;
    const op_provider& device_;
    std::uint64_t slab_bytes_;
    std::mutex lock_;
    std::vector<copy_stream> idle_; ///< as many as ever copied at once
};

} // namespace moira
