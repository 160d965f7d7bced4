#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/experts/expert_hint.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace moira {

using slot_index = std::int32_t;

/// What a policy is made for.
struct eviction_dimensions {
    std::int32_t layers = 0;     ///< all layers of the model, dense ones included
    std::int32_t experts = 0;    ///< routed experts per layer
    std::int32_t moe_layers = 0; ///< layers that have experts
};

/// One wave of a layer. A layer's visit is one wave, or several of disjoint experts.
struct eviction_wave {
    std::int32_t layer = 0;
    std::span<const std::int32_t> experts;     ///< distinct
    std::span<const std::int32_t> prompt_only; ///< ascending: what nothing but rows of a prompt wants of this visit
    bool continues = false;                    ///< the visit that the wave before belongs to
};

/// Decides which resident expert leaves. Plain state, called under the store's lock: no I/O, no waiting, O(slots) at
/// most. Replaceable: policies are compared by replaying traces through this same interface. Numbers that reach it have
/// been checked: layers and experts exist, slots are below the count of the last reset().
class eviction_policy {
public:
    virtual ~eviction_policy() = default;
    virtual std::string_view name() const noexcept = 0;

    /// Whether it copes with fewer slots than one token visits. If not, the store uses the bypass policy there.
    virtual bool works_below_floor() const noexcept { return false; }

    /// The store has this many slots now (at creation and after a resize). Forget which slot holds what: inserted()
    /// follows for the residents, least recently used first. What is known about experts may be kept.
    virtual void reset(slot_index slots) = 0;

    /// A wave is about to be pinned: touched() follows for the experts that are here, then victim() and inserted() for
    /// the others.
    virtual void wave_begins(const eviction_wave&) {}

    /// `slot` now holds `expert`.
    virtual void inserted(slot_index slot, expert_id expert) = 0;

    /// `slot` was used by a wave.
    virtual void touched(slot_index slot) = 0;

    /// `slot` is empty again.
    virtual void removed(slot_index slot) = 0;

    /// `experts` will probably be wanted by the next visit of `layer`, the likeliest first. Replaces what was said
    /// about that layer; over when it is visited.
    virtual void hinted(std::int32_t layer, std::span<const expert_hint> experts) {
        static_cast<void>(layer), static_cast<void>(experts);
    }

    /// An earlier run used `expert` in this share of its layer's visits.
    virtual void primed(expert_id expert, float use_rate) { static_cast<void>(expert), static_cast<void>(use_rate); }

    /// The slot to give up for `incoming`, among those for which `evictable[slot]` is true; none when there is none.
    virtual std::optional<slot_index> victim(expert_id incoming, std::span<const bool> evictable) = 0;
};

/// Least recently used; with `bypass` most recently used. A cyclic visit of more experts than slots makes LRU hit
/// exactly 0 %: below slots_floor the newest one leaves instead, so that the others stay and hit.
std::unique_ptr<eviction_policy> make_lru_policy(bool bypass);

/// Names that make_eviction_policy knows, the default first.
std::span<const std::string_view> eviction_policy_names() noexcept;

/// Errors: invalid_argument (no such policy, dimensions that are not positive).
result<std::unique_ptr<eviction_policy>> make_eviction_policy(std::string_view name,
                                                              const eviction_dimensions& dimensions);

} // namespace moira
