#pragma once

#include "core/experts/expert_profile.hpp"
#include "core/experts/residency_table.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace moira {

/// What a profile still wants in the cache: the most used experts first, for slots that are empty anyway. Plain state
/// under the store's lock.
class cache_warmup {
public:
    /// Precondition: the profile's sizes are the table's. Tells the table's policy of all of it.
    void begin(const expert_profile& profile, residency_table& table);

    void stop() noexcept { waiting_.clear(); }
    std::size_t waiting() const noexcept { return waiting_.size(); }

    /// A slot for the next expert that is not here yet: loading, without a pin; then complete() or abandon(). None when
    /// no slot is empty, which ends it: from then on it is for demand to say what is worth a slot.
    std::optional<slot_index> next(residency_table& table);

    /// Slots given so far.
    std::uint64_t loads() const noexcept { return loads_; }

private:
    std::vector<expert_id> waiting_; // the most used last
    std::uint64_t loads_ = 0;
};

} // namespace moira
