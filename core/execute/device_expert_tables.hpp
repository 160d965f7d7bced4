#pragma once

#include "core/base/error.hpp"
#include "core/execute/device.hpp"
#include "core/experts/expert_store.hpp"

#include <cstdint>
#include <vector>

namespace moira {

/// The tables of a store, one per layer, for a device that cannot read them where the store keeps them. A table's
/// address never changes; its entries do, in the order of the queue.
class device_expert_tables {
public:
    /// None: kernels read the store's own tables.
    device_expert_tables() = default;

    /// Errors: out_of_memory, device_error.
    static result<device_expert_tables> create(const op_provider& memory, std::int32_t layers, std::int32_t experts);

    bool needed() const noexcept { return experts_ > 0; }

    /// Device address of a layer's table, which refresh() has filled. Precondition: needed().
    const moira_expert_entry* table(std::int32_t layer) const noexcept;

    /// Queues a copy of what has changed in the layer's table since the last call; nothing has: nothing. Entries of
    /// experts that are pinned now are right for whatever the queue launches until their pins end. Experts that are
    /// absent have no address: a kernel that asks for one sets the error word. The queue has done the copies of earlier
    /// calls. Errors: device_error.
    result<const moira_expert_entry*> refresh(std::int32_t layer, const expert_store& store, device_queue& queue);

private:
    device_buffer device_;                  ///< [layers, experts]
    std::vector<moira_expert_entry> known_; ///< [layers, experts]: what the device has, or will have in queue order
    std::vector<moira_expert_entry> now_;   ///< [experts], of one call
    std::vector<bool> copied_;              ///< [layers]: known_ is true of the device
    std::size_t experts_ = 0;
};

} // namespace moira
