#pragma once

#include "core/base/ids.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace moira {

using slot_index = std::int32_t;

/// Decides which resident expert leaves. Plain state, called under the store's lock: no I/O, no waiting, O(slots) at
/// most. Replaceable: policies are compared by replaying traces through this same interface.
class eviction_policy {
public:
    virtual ~eviction_policy() = default;
    virtual std::string_view name() const noexcept = 0;

    /// The store has this many slots now (at creation and after a resize). Forget everything: inserted() follows for
    /// the residents, least recently used first.
    virtual void reset(slot_index slots) = 0;

    /// `slot` now holds `expert`.
    virtual void inserted(slot_index slot, expert_id expert) = 0;

    /// `slot` was used by a wave.
    virtual void touched(slot_index slot) = 0;

    /// `slot` is empty again.
    virtual void removed(slot_index slot) = 0;

    /// The slot to give up for `incoming`, among those for which `evictable[slot]` is true; none when there is none.
    virtual std::optional<slot_index> victim(expert_id incoming, std::span<const bool> evictable) = 0;
};

/// Least recently used; with `bypass` most recently used. A cyclic visit of more experts than slots makes LRU hit
/// exactly 0 %: below slots_floor the newest one leaves instead, so that the others stay and hit.
std::unique_ptr<eviction_policy> make_lru_policy(bool bypass);

} // namespace moira
