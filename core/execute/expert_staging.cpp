#include "core/execute/expert_staging.hpp"

#include "core/base/checked.hpp"

#include <algorithm>

namespace moira {

result<expert_staging> expert_staging::create(const op_provider& memory, std::int32_t experts, std::int32_t slots,
                                              std::uint64_t slab_bytes, std::uint64_t slab_alignment) {
    expert_staging made;
    made.slots_ = static_cast<std::size_t>(slots);
    made.slab_bytes_ = slab_bytes;
    made.slot_bytes_ = round_up(slab_bytes, slab_alignment);
    made.entries_.resize(static_cast<std::size_t>(experts));
    const auto bytes = checked_mul(made.slot_bytes_, static_cast<std::uint64_t>(slots));
    if (!bytes)
        return fail(errc::out_of_memory, "the slabs of one token's experts do not fit an address space");
    auto slabs = device_buffer::create(memory, *bytes, slab_alignment);
    if (!slabs)
        return tl::unexpected(slabs.error());
    auto table = device_buffer::create(memory, made.entries_.size() * sizeof(moira_expert_entry));
    if (!table)
        return tl::unexpected(table.error());
    made.slabs_ = std::move(*slabs);
    made.table_ = std::move(*table);
    return made;
}

result<const moira_expert_entry*> expert_staging::stage(std::span<const moira_expert_group> groups,
                                                        const moira_expert_entry* host_table, device_queue& queue) {
    if (groups.size() > slots_)
        return fail(errc::internal, std::to_string(groups.size()) + " experts do not fit " + std::to_string(slots_) +
                                        " device slots");
    // What is not staged has no address: a kernel that asks for it sets the error word.
    std::fill(entries_.begin(), entries_.end(), moira_expert_entry{});
    auto* slot = slabs_.as<std::byte>();
    for (const auto& group : groups) {
        auto& entry = entries_[group.expert];
        entry = host_table[group.expert];
        if (entry.address == 0)
            continue;
        const auto* slab = reinterpret_cast<const void*>(static_cast<std::uintptr_t>(entry.address));
        if (auto done = queue.upload(slot, slab, slab_bytes_); !done)
            return tl::unexpected(done.error());
        entry.address = reinterpret_cast<std::uintptr_t>(slot);
        slot += slot_bytes_;
    }
    if (auto done = queue.upload(table_.as<void>(), entries_.data(), entries_.size() * sizeof entries_.front()); !done)
        return tl::unexpected(done.error());
    return table_.as<moira_expert_entry>();
}

}  // namespace moira
