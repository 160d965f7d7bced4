#include "core/experts/eviction_policy.hpp"

#include "core/experts/eviction_families.hpp"

#include <algorithm>
#include <array>
#include <string>
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

struct named_policy {
    std::string_view name;
    std::unique_ptr<eviction_policy> (*make)(const eviction_dimensions& dimensions);
};

constexpr std::array policies = {
    named_policy{"next_visit", make_next_visit_policy},
    named_policy{"lru", [](const eviction_dimensions&) { return make_lru_policy(false); }},
    named_policy{"lru_layer", make_lru_layer_policy},
    named_policy{"lfu_decay", make_lfu_decay_policy},
    named_policy{"lfru", make_lfru_policy},
    named_policy{"least_stale", make_least_stale_policy},
};

constexpr auto policy_names = [] {
    std::array<std::string_view, policies.size()> names;
    std::transform(policies.begin(), policies.end(), names.begin(), [](const named_policy& row) { return row.name; });
    return names;
}();

} // namespace

std::unique_ptr<eviction_policy> make_lru_policy(bool bypass) {
    return std::make_unique<lru_policy>(bypass);
}

std::span<const std::string_view> eviction_policy_names() noexcept {
    return policy_names;
}

result<std::unique_ptr<eviction_policy>> make_eviction_policy(std::string_view name,
                                                              const eviction_dimensions& dimensions) {
    if (dimensions.layers < 1 || dimensions.experts < 1 || dimensions.moe_layers < 1)
        return fail(errc::invalid_argument, "an eviction policy needs layers with experts, found " +
                                                std::to_string(dimensions.moe_layers) + " of " +
                                                std::to_string(dimensions.layers) + " layers, " +
                                                std::to_string(dimensions.experts) + " experts");
    const auto found =
        std::find_if(policies.begin(), policies.end(), [name](const named_policy& row) { return row.name == name; });
    if (found != policies.end())
        return found->make(dimensions);
    std::string known;
    for (const std::string_view each : policy_names)
        known.append(known.empty() ? "" : ", ").append(each);
    return fail(errc::invalid_argument,
                "no eviction policy is called '" + std::string(name) + "': choose one of " + known);
}

} // namespace moira
