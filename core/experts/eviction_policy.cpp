#include "core/experts/eviction_policy.hpp"

#include <vector>

namespace moira {
namespace {

constexpr slot_index no_slot = -1;

/// A doubly linked list through the slots, oldest use first.
class lru_policy final : public eviction_policy {
public:
    explicit lru_policy(bool bypass) : bypass_(bypass) {}

    std::string_view name() const noexcept override { return bypass_ ? "bypass" : "lru"; }

    void reset(slot_index slots) override {
        links_.assign(static_cast<std::size_t>(slots), link{});
        oldest_ = newest_ = no_slot;
    }

    void inserted(slot_index slot, expert_id) override {
        unlink(slot);
        append(slot);
    }

    void touched(slot_index slot) override {
        unlink(slot);
        append(slot);
    }

    void removed(slot_index slot) override { unlink(slot); }

    std::optional<slot_index> victim(expert_id, std::span<const bool> evictable) override {
        slot_index slot = bypass_ ? newest_ : oldest_;
        while (slot != no_slot && !evictable[static_cast<std::size_t>(slot)])
            slot = bypass_ ? at(slot).older : at(slot).newer;
        if (slot == no_slot)
            return std::nullopt;
        return slot;
    }

private:
    struct link {
        slot_index older = no_slot, newer = no_slot;
        bool listed = false;
    };

    link& at(slot_index slot) { return links_[static_cast<std::size_t>(slot)]; }

    void append(slot_index slot) {
        at(slot) = {.older = newest_, .newer = no_slot, .listed = true};
        (newest_ == no_slot ? oldest_ : at(newest_).newer) = slot;
        newest_ = slot;
    }

    void unlink(slot_index slot) {
        const link was = at(slot);
        if (!was.listed)
            return;
        (was.older == no_slot ? oldest_ : at(was.older).newer) = was.newer;
        (was.newer == no_slot ? newest_ : at(was.newer).older) = was.older;
        at(slot) = {};
    }

    bool bypass_;
    std::vector<link> links_;
    slot_index oldest_ = no_slot, newest_ = no_slot;
};

} // namespace

std::unique_ptr<eviction_policy> make_lru_policy(bool bypass) {
    return std::make_unique<lru_policy>(bypass);
}

} // namespace moira
