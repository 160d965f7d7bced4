#pragma once

#include "core/experts/cache_warmup.hpp"
#include "core/experts/expert_store.hpp"
#include "core/experts/expert_store_sizes.hpp"
#include "core/experts/expert_visit.hpp"
#include "core/experts/layer_counters.hpp"
#include "core/experts/miss_curve.hpp"
#include "core/experts/prefetch_hints.hpp"
#include "core/experts/residency_table.hpp"
#include "core/experts/slot_memory.hpp"
#include "core/experts/transfer_queue.hpp"
#include "core/experts/visit_window.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

// What the store's translation units share; nobody else includes it.

namespace moira {

/// One expert of a wave that is pinned.
struct wave_member {
    slot_index slot = 0;
    std::uint32_t generation = 0;
    std::shared_ptr<expert_load> load; // null: was resident
    bool named = false;                // to whoever holds the wave

    bool here() const noexcept { return !load || load->over(); }
};

struct expert_lease::impl {
    explicit impl(expert_store::impl& owner) : store(&owner) {}
    impl(const impl&) = delete;
    impl& operator=(const impl&) = delete;
    ~impl();

    expert_store::impl* store;
    std::vector<wave_member> members; // in the order of `experts`
    std::vector<std::int32_t> experts, resident, missing;
    std::optional<std::int32_t> failed; // that wait_some() complained of
    std::int32_t layer = 0;
    double stall_s = 0; // waited for so far
};

/// What a visit writes; visits that are over leave it to later ones, with its memory.
struct expert_visit::impl {
    std::vector<std::int32_t> order;  // residents first
    std::vector<wave_member> members; // of the order, as far as it was asked for
    std::size_t residents = 0;        // of the order: the first so many
    std::size_t released = 0;         // of the members: the pins of the first so many are over
    std::vector<pinned_expert> named; // by the latest call
    std::vector<std::int32_t> failed;

    bool all_asked() const noexcept { return members.size() == order.size(); }
    bool holds_none() const noexcept { return released == members.size(); }
    /// Absent ones whose pins are not over.
    std::size_t travelling() const noexcept {
        return members.size() - std::min(members.size(), std::max(released, residents));
    }
};

/// Everything but the slots' bytes is guarded by `lock`.
struct expert_store::impl {
    using wave = expert_lease::impl;
    using visit = expert_visit::impl;

    impl(const expert_store_options& wanted, const store_sizes& numbers, slab_source& from,
         std::unique_ptr<slot_memory> slots_memory, std::unique_ptr<eviction_policy> normal);

    result<void> check_experts(std::int32_t layer, std::span<const std::int32_t> experts);
    result<void> check_wave(std::int32_t layer, std::span<const std::int32_t> experts);
    result<void> wait_for_slots(std::int32_t layer, std::span<const std::int32_t> experts,
                                std::unique_lock<std::mutex>& held);
    void pin(const visit_wish& wish, bool continues, std::vector<wave_member>& taken);
    void release(wave& ended);
    void end_pin(const wave_member& member);
    result<std::vector<std::int32_t>> wait_some(wave& wanted);
    void wait_for_some(std::span<wave_member> members, std::unique_lock<std::mutex>& held);
    void wait_for_all(std::span<wave_member> members, std::unique_lock<std::mutex>& held);
    double note_stall(std::int32_t layer, std::chrono::steady_clock::time_point begin);
    void learn_stall(std::span<const wave_member> members, double stall_s);

    std::unique_ptr<visit> begin_visit(const visit_wish& wish);
    void end_visit(std::unique_ptr<visit> ended, double stall_s);
    result<void> send_for_more(visit& of, const visit_wish& wish, std::unique_lock<std::mutex>& held);
    void send_for_absent(visit& of, const visit_wish& wish);
    void pin_next(visit& of, const visit_wish& wish, std::size_t count);
    void end_named_pins(visit& of, const visit_wish& wish);
    result<void> name_arrived(visit& of);
    void finished(expert_load& load);
    void note_prefetched(std::int32_t layer, const residency_table::pin& pin);
    std::shared_ptr<expert_load> next_speculative();
    std::shared_ptr<expert_load> next_of_profile();
    std::shared_ptr<expert_load> make_load(expert_id expert, slot_index slot);
    bool of_module(std::int32_t layer) const noexcept { return options.module_layer && layer >= *options.module_layer; }
    void count_demand(std::int32_t layer, std::int32_t expert, bool resident, std::span<const std::int32_t> drafted);
    std::uint64_t& demand_bytes(const expert_load& load);
    bool shows(std::int32_t layer, std::int32_t expert) const noexcept;
    prefetch_figures measured() const;
    bool worth_loading(float probability, residency_table::speculative_room room) const;
    /// One waits for the loader that is done first.
    std::size_t travelling_max() const noexcept { return options.loader_threads + std::size_t{1}; }
    void slots_changed();
    void configure(slot_index slots);

    const expert_store_options options;
    const store_sizes sizes;
    slab_source& source;
    mutable std::mutex lock;
    std::condition_variable slots_freed;
    std::uint32_t holds = 0, resizes_waiting = 0; // see hold_residents()
    std::condition_variable holds_over;
    std::uint64_t next_ticket = 0, served_ticket = 0; // acquirers that wait for slots, first come first served
    std::unique_ptr<slot_memory> memory;
    std::unique_ptr<eviction_policy> normal_policy, bypass_policy;
    residency_table table;
    std::vector<std::shared_ptr<expert_load>> load_by_slot; // while loading
    std::vector<bool> seen;                                 // [experts], for check_wave; false between calls
    std::vector<residency_table::pin> pins;                 // for pin(); empty between calls
    std::vector<std::unique_ptr<visit>> spare_visits;       // as many as ever were under way at once
    prefetch_hints hints;
    layer_counters by_layer;
    miss_curve curve;
    visit_window window;
    mutable std::mutex reckoning; // guards the next two; never taken while `lock` is held
    mutable std::optional<expert_regret> reckoned;
    mutable std::chrono::steady_clock::time_point reckoned_until; // it is given again
    cache_warmup warmup;
    std::vector<expert_hint> existing, absent;                        // for hint(); empty between calls
    std::vector<std::chrono::steady_clock::time_point> begun_by_slot; // of speculative loads
    double head_start_s = 0;                              // by which useful ones were ahead of their demand, on average
    double stall_per_load_s = 0;                          // on average
    double step_s = 0, step_stall_s = 0, step_busy_s = 0; // of whole steps
    std::chrono::steady_clock::time_point step_begun;
    double busy_before_step_s = 0;
    std::uint64_t met_by_demand = 0; // waves with demand loads that found a speculative one being read
    expert_store_statistics counters;
    transfer_queue queue; // last: its threads use all of the above
};

} // namespace moira
