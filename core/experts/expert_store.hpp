#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/experts/eviction_policy.hpp"
#include "core/experts/expert_profile.hpp"
#include "core/experts/expert_regret.hpp"
#include "core/experts/layer_statistics.hpp"
#include "core/experts/loader_threads.hpp"
#include "core/experts/prefetch_hints.hpp"
#include "core/experts/slab_source.hpp"
#include "core/experts/slot_memory.hpp"
#include "core/route/pruning_report.hpp"
#include "core/route/route_board.hpp"
#include "plugins/moira_plugin.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace moira {

/// How many experts the model has and what fits. All numbers are known before anything is allocated.
struct expert_store_options {
    std::int32_t layers = 0;                       ///< all layers of the model; dense ones simply never ask
    std::optional<std::int32_t> module_layer = {}; ///< the first layer of multi-token-prediction modules
    std::int32_t experts = 0;                      ///< routed experts per layer
    std::int32_t top_k = 0;
    std::int32_t moe_layers = 0;
    std::uint64_t slab_bytes = 0; ///< packed bytes of one expert
    std::uint64_t slab_alignment = 64;
    std::uint64_t budget_bytes = 0;                        ///< fast memory for slots; below top_k slots: refused
    std::uint32_t layout_id = 0;                           ///< of packed slabs, for the table's entries
    std::uint32_t loader_threads = loader_threads_default; ///< reads in flight
};

/// Experts that were asked for: found in memory, or loaded, and the bytes read for them.
struct expert_demand {
    std::uint64_t hits = 0, demand_loads = 0, demand_bytes = 0;
};

/// Counters since the start. They say what happened. hits + demand_loads = experts acquired; an expert that is still on
/// its way for another wave counts as a demand load although it is read once. demand_bytes: read, of loads that
/// succeeded.
struct expert_store_statistics {
    std::uint64_t budget_bytes = 0, slots = 0, resident = 0, slots_floor = 0;
    std::uint64_t hits = 0, demand_loads = 0, demand_bytes = 0, evictions = 0, waves = 0;
    /// Not among the above. drafted: experts that nothing but drafted rows of a step asked for, accepted later or not
    /// (nobody knows that when they are asked for); so with every draft rejected the counters above are those without
    /// speculation, but for what such loads evicted or brought. module: asked for by layers from module_layer on.
    expert_demand drafted, module;
    /// prefetch_loads = prefetch_useful + prefetch_wasted + prefetch_open. Useful: a wave asked for the expert before
    /// it left. Open: resident or on its way, not asked for yet.
    std::uint64_t prefetch_loads = 0, prefetch_useful = 0, prefetch_wasted = 0, prefetch_wasted_bytes = 0,
                  prefetch_open = 0;
    /// hints.given = hints.refused + hints.cancelled + hints_waiting + prefetch_loads.
    hint_counts hints;
    std::uint64_t hints_waiting = 0;
    prefetch_figures prefetch_measured;
    std::optional<route_report> prediction; ///< of the engine's predictors; none: nobody predicts
    std::optional<pruning_report> pruning;  ///< of the engine; none: every chosen expert runs
    std::uint64_t profile_loads = 0;        ///< begun for a profile; neither demand nor prefetch
    std::uint64_t load_failures = 0, load_retries = 0;
    double stall_s = 0; ///< time that acquirers waited for loads
    /// The time of steps, split: compute_s + step_stall_s. Of both together, link_idle_s no expert was being read.
    double compute_s = 0, step_stall_s = 0, link_idle_s = 0;
    bool bypass = false; ///< below the floor: hints evict nothing, and a policy that does not work there is replaced
    std::string policy;  ///< name of the policy in use: "lru"
    std::uint64_t slot_bytes = 0, slots_all = 0; ///< of one slot; experts of the whole model
    /// Of the store in host memory that this one, on a device, takes its experts from; null: from the disk.
    std::shared_ptr<const expert_store_statistics> host_tier;
    std::uint64_t slots_to_halve = 0; ///< with so many there would be about half as many loads (miss_curve); 0: unknown
    std::vector<layer_statistics> layers; ///< that were asked for
    std::optional<expert_regret> regret;  ///< over the latest visits; none: nobody reckoned
    double hit_rate() const noexcept;

    /// Also into the layers.
    void add_regret(expert_regret reckoned);

    /// What happened after `earlier`, which the same store said; what is a state and no count is that of now.
    expert_store_statistics since(const expert_store_statistics& earlier) const;
};

/// For so many times what reckoning took nothing is reckoned anew, but at most so long.
inline constexpr int regret_pause_factor = 100;
inline constexpr std::chrono::milliseconds regret_age_max{1000};

class expert_store;
class residency_hold;

/// The experts of one wave: pinned from acquire to destruction, so that nothing evicts what a kernel reads. Move-only;
/// may be destroyed on any thread. Borrows the store.
class expert_lease {
public:
    expert_lease() noexcept; ///< of no experts; only to be assigned
    expert_lease(expert_lease&&) noexcept;
    expert_lease& operator=(expert_lease&&) noexcept;
    ~expert_lease();

    /// The experts of the wave, in the order asked; ready() ones may be computed now.
    std::span<const std::int32_t> experts() const noexcept;

    /// Experts whose slabs were resident when the wave was acquired.
    std::span<const std::int32_t> resident() const noexcept;

    /// The ones that had to be loaded.
    std::span<const std::int32_t> missing() const noexcept;

    /// Generation to expect in the entry of `expert`; precondition: part of this wave.
    std::uint32_t generation(std::int32_t expert) const noexcept;

    /// Blocks until some missing experts have arrived that no call named yet, and names them; none: all were. Errors:
    /// io_error, corrupt_file: as soon as one load of the wave has failed; the failed expert is not resident afterwards
    /// and a later acquire tries again.
    result<std::vector<std::int32_t>> wait_some();

    /// The expert whose load failed, once wait_some() has said so.
    std::optional<std::int32_t> failed() const noexcept;

private:
    friend class expert_store;
    struct impl;
    explicit expert_lease(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

/// Routed experts in fast memory: slots in one piece of memory under a budget, loaded on demand, evicted by policy. One lock, not
/// an actor: the layer loop calls it once per wave, hints and statistics come from other threads.
///
/// Pin protocol: acquire() pins the whole wave before its first load starts; pins end with the lease. A pinned slot is
/// never evicted; a slot being loaded is pinned. Experts of the wave that are resident count as hits.
///
/// Hints: hint() names experts that a layer will probably want. While the link is idle they are loaded, one by one,
/// into empty slots or into the slots of cold experts; never below slots_floor's bypass, where every expert is warm. A
/// wave that asks for one that is on its way joins its read.
class expert_store {
public:
    /// Allocates the slots: in host memory, or what `make_memory` gives. `source` outlives the store. `policy` may be null: LRU. Below slots_floor the
    /// store uses the bypass policy instead, if `policy` does not work there, and says so. Loading needs
    /// source.scratch_bytes() per loader thread and per waiter beside the budget. Errors: budget_too_small (with the
    /// arithmetic: slots needed, bytes needed), out_of_memory, invalid_argument (options that contradict each other or
    /// the source).
    static result<std::unique_ptr<expert_store>> create(const expert_store_options& options, slab_source& source,
                                                        std::unique_ptr<eviction_policy> policy,
                                                        const slot_memory_maker& make_memory = {});

    /// Waits for loads that run. All leases must be gone.
    ~expert_store();
    expert_store(const expert_store&) = delete;
    expert_store& operator=(const expert_store&) = delete;

    /// Pins `experts` of `layer` (distinct, at most wave_experts_max() of them) and starts loading the missing ones.
    /// Never waits for I/O of its own; where the slots do not suffice beside other leases, waits until those end, first
    /// come first served, all slots or none. So whoever holds a lease and acquires another from the same thread must
    /// know that both fit together. Errors: invalid_argument (too many, twice the same, out of range).
    /// `drafted` (ascending): experts that only drafted rows want, which are counted apart. `prompt_only` (ascending):
    /// those that nothing but rows of a prompt wants, which the policy does not take for use to come. `continues`: the
    /// wave belongs to the same visit of the layer as the one before.
    result<expert_lease> acquire(std::int32_t layer, std::span<const std::int32_t> experts,
                                 std::span<const std::int32_t> drafted = {},
                                 std::span<const std::int32_t> prompt_only = {}, bool continues = false);

    /// Absent experts of an expert_visit that are on their way at a time: they keep all loaders busy.
    std::int32_t travelling_max() const noexcept;

    /// The same experts, those that are resident now first; each part keeps its order. What a caller should cut into
    /// waves: a wave that loads could otherwise evict what a later wave of the same step would have found.
    std::vector<std::int32_t> residents_first(std::int32_t layer, std::span<const std::int32_t> experts) const;

    /// Sets present[e] to 1 where expert e of `layer` is in memory now, to 0 elsewhere. [experts] at most.
    void mark_residents(std::int32_t layer, std::span<std::uint8_t> present) const;

    /// Most experts that one wave may hold.
    std::int32_t wave_experts_max() const noexcept;

    /// The device-side table of a layer: [experts] entries, kept up to date under the store's lock. An entry changes
    /// only while its expert is not pinned, so a kernel that holds a lease reads stable entries of its own wave.
    const moira_expert_entry* table(std::int32_t layer) const noexcept;

    /// The first entries of it as they are at one moment, for a device that cannot read it in place. Precondition: the
    /// layer exists and has so many experts.
    void copy_table(std::int32_t layer, std::span<moira_expert_entry> entries) const;

    /// Keeps every routed expert where it is, for a step that does not ask for them one layer after another; nothing:
    /// some are absent, or a resize waits. See residency_hold.hpp.
    std::optional<residency_hold> hold_residents();

    /// Changes the budget while running; slots above the new bound are given up as their pins end. Errors:
    /// budget_too_small, out_of_memory; the budget is as before then. Waits for a hold_residents() to end.
    result<void> resize(std::uint64_t budget_bytes);

    /// How hints become loads, from now on. Any thread.
    void set_prefetch(const prefetch_policy& policy);

    /// How many visits ahead hints are wanted now: 0 when no hint could lead to a load, so that evaluating a predictor
    /// is for statistics only; hint_visits_max when everything that
    /// finds an idle link is loaded, or when hints for the next visit come too late to save a demand load's stall.
    std::size_t hint_visits_wanted() const;

    /// `experts` of `layer` (distinct, the likeliest first) will probably be wanted by its next visit, which is the
    /// `visits`-th from now on (1 .. hint_visits_max): when another layer is visited in its place, the hint is dropped.
    /// Replaces the hint for that visit. Never waits; wakes a loader only when there is something to load. Give it
    /// after the acquire of the layer before, so that it queues behind that layer's demand. Experts that do not exist
    /// are refused.
    /// `more`: another hint follows at once, and nothing is begun before it is there.
    void hint(std::int32_t layer, std::span<const expert_hint> experts, std::size_t visits = 1, bool more = false);

    /// A step begins and ends, `stall_s` of it waiting for experts: for the split of time in the statistics. The thread
    /// that runs steps.
    void begin_step();
    void end_step(double stall_s);

    /// Begins to fill empty slots with the experts that `profile` names, the most used first, while nothing else wants
    /// the link; and tells the policy. Needs two loader threads, as hints do. Errors: invalid_argument (of another
    /// model: its sizes do not fit).
    result<void> warm_up(const expert_profile& profile);

    /// What is not on its way yet stays away.
    void stop_warm_up();

    /// How often each expert was used, the profile of warm_up() included, which fades; `model` is empty.
    expert_profile usage() const;

    /// Without regret: that takes time.
    expert_store_statistics statistics() const;

    /// How the latest visits compare with Belady's optimum. Reckoned on the calling thread, which should not be the one
    /// that runs steps: see regret_window_uses_max for how long that takes at most. An answer is given again
    /// for regret_pause_factor times as long, so that asking all the time costs a hundredth of a core. Any thread.
    expert_regret regret() const;

    /// Sentences for the log at start: below the floor, bypass, ...
    std::vector<std::string> notices() const;

private:
    friend class expert_lease;
    friend class expert_visit;
    friend class residency_hold;
    struct impl;
    void end_hold() noexcept;
    explicit expert_store(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

} // namespace moira
