#include "core/experts/eviction_families.hpp"

#include <algorithm>
#include <vector>

namespace moira {
namespace {

constexpr std::int32_t no_layer = -1;

class lru_layer_policy final : public eviction_policy {
public:
    explicit lru_layer_policy(const eviction_dimensions& dimensions)
        : moe_layers_(dimensions.moe_layers), held_(static_cast<std::size_t>(dimensions.layers)) {}

    std::string_view name() const noexcept override { return "lru_layer"; }

    void reset(slot_index slots) override {
        slots_.assign(static_cast<std::size_t>(slots), held{});
        std::fill(held_.begin(), held_.end(), 0);
    }

    void inserted(slot_index slot, expert_id expert) override {
        removed(slot);
        at(slot) = {.layer = expert.layer, .used = ++uses_};
        ++held_[static_cast<std::size_t>(expert.layer)];
    }

    void touched(slot_index slot) override { at(slot).used = ++uses_; }

    void removed(slot_index slot) override {
        if (at(slot).layer != no_layer)
            --held_[static_cast<std::size_t>(at(slot).layer)];
        at(slot) = {};
    }

    std::optional<slot_index> victim(expert_id incoming, std::span<const bool> evictable) override {
        const auto own = held_[static_cast<std::size_t>(incoming.layer)];
        if (own >= quota(own))
            if (const auto slot = oldest_of(incoming.layer, evictable))
                return slot;
        return oldest_of(fullest(evictable), evictable);
    }

private:
    struct held {
        std::int32_t layer = no_layer;
        std::uint64_t used = 0;
    };

    held& at(slot_index slot) { return slots_[static_cast<std::size_t>(slot)]; }

    /// Slots that do not divide evenly go to the layers that ask first: one more for as many layers as there are.
    slot_index quota(slot_index) const noexcept { return static_cast<slot_index>(slots_.size()) / moe_layers_; }

    /// The layer that holds most, of those that could give something up.
    std::int32_t fullest(std::span<const bool> evictable) const {
        std::int32_t most = no_layer;
        for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
            const std::int32_t layer = slots_[slot].layer;
            if (evictable[slot] && layer != no_layer &&
                (most == no_layer || held_[static_cast<std::size_t>(layer)] > held_[static_cast<std::size_t>(most)]))
                most = layer;
        }
        return most;
    }

    std::optional<slot_index> oldest_of(std::int32_t layer, std::span<const bool> evictable) const {
        std::optional<slot_index> oldest;
        for (std::size_t slot = 0; slot < slots_.size(); ++slot)
            if (evictable[slot] && layer != no_layer && slots_[slot].layer == layer &&
                (!oldest || slots_[slot].used < slots_[static_cast<std::size_t>(*oldest)].used))
                oldest = static_cast<slot_index>(slot);
        return oldest;
    }

    std::int32_t moe_layers_;
    std::vector<held> slots_;
    std::vector<slot_index> held_; // [layers]
    std::uint64_t uses_ = 0;
};

} // namespace

std::unique_ptr<eviction_policy> make_lru_layer_policy(const eviction_dimensions& dimensions) {
    return std::make_unique<lru_layer_policy>(dimensions);
}

} // namespace moira
