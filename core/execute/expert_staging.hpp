#pragma once

#include "core/base/error.hpp"
#include "core/execute/device.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// Experts for a device that cannot read the store's host memory: the slabs of one launch are copied into a few device
/// slots, with a table of their own. On a CPU there is nothing to stage.
class expert_staging {
public:
    /// No slots: kernels read the store's own table.
    expert_staging() = default;

    /// Room for `slots` slabs at a time of a layer with `experts` experts. Errors: out_of_memory, device_error.
    static result<expert_staging> create(const op_provider& memory, std::int32_t experts, std::int32_t slots,
                                         std::uint64_t slab_bytes, std::uint64_t slab_alignment);

    bool needed() const noexcept { return slots_ > 0; }
    std::size_t slots() const noexcept { return slots_; }

    /// Queues the copies of the groups' slabs, which `host_table` points to, and returns the table to launch with. At
    /// most slots() groups. The queue must be idle when this is called, and the slabs pinned until it is idle again.
    result<const moira_expert_entry*> stage(std::span<const moira_expert_group> groups,
                                            const moira_expert_entry* host_table, device_queue& queue);

private:
    device_buffer slabs_, table_;
    std::vector<moira_expert_entry> entries_;  ///< [experts]: what table_ gets
    std::size_t slots_ = 0;
    std::uint64_t slab_bytes_ = 0, slot_bytes_ = 0;
};

}  // namespace moira
