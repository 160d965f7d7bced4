#include "core/experts/expert_store.hpp"

#include "core/base/checked.hpp"
#include "core/experts/residency_table.hpp"
#include "core/experts/slab_arena.hpp"
#include "core/experts/transfer_queue.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

namespace moira {
namespace {

/// (layer, expert) pairs: more than thirty times the largest published model (61 layers of 256).
constexpr std::uint64_t entries_max = 1ULL << 19;

/// Threads beyond a handful only add latency; this bounds a typing error.
constexpr std::uint32_t loader_threads_max = 64;

struct store_sizes {
    std::uint64_t slot_bytes = 0;
    std::int32_t routed_experts = 0; // of the whole model: more slots are never needed
    std::int32_t slots_floor = 0;
};

result<store_sizes> check_options(const expert_store_options& options, const slab_source& source) {
    const auto refuse = [](const std::string& why) { return fail(errc::invalid_argument, "expert store: " + why); };
    if (options.layers < 1 || options.experts < 1 || options.moe_layers < 1 || options.moe_layers > options.layers)
        return refuse("needs layers with experts, found " + std::to_string(options.moe_layers) + " of " +
                      std::to_string(options.layers) + " layers, " + std::to_string(options.experts) + " experts");
    if (options.top_k < 1 || options.top_k > options.experts)
        return refuse("top_k " + std::to_string(options.top_k) + " is not within 1 .. " +
                      std::to_string(options.experts));
    const auto layers = static_cast<std::uint64_t>(options.layers);
    if (layers * static_cast<std::uint64_t>(options.experts) > entries_max)
        return refuse(std::to_string(options.layers) + " layers of " + std::to_string(options.experts) +
                      " experts are more than " + std::to_string(entries_max));
    const std::uint64_t step = options.slab_alignment;
    if (step == 0 || (step & (step - 1)) != 0 || step > slab_arena::alignment)
        return refuse("slab alignment " + std::to_string(step) + " is not a power of two up to " +
                      std::to_string(slab_arena::alignment));
    if (options.slab_bytes == 0 || options.slab_bytes != source.slab_bytes())
        return refuse("slabs of " + std::to_string(options.slab_bytes) + " bytes, but the source writes " +
                      std::to_string(source.slab_bytes()));
    if (options.loader_threads > loader_threads_max)
        return refuse("at most " + std::to_string(loader_threads_max) + " loader threads");
    store_sizes sizes;
    sizes.routed_experts = options.moe_layers * options.experts;
    sizes.slots_floor = options.moe_layers * options.top_k;
    const auto padded = checked_add(options.slab_bytes, step - 1);
    if (!padded || !checked_mul(*padded, static_cast<std::uint64_t>(sizes.routed_experts)))
        return refuse("slabs of " + std::to_string(options.slab_bytes) + " bytes do not fit an address space");
    sizes.slot_bytes = round_up(options.slab_bytes, step);
    return sizes;
}

result<slot_index> slots_for(std::uint64_t budget_bytes, const expert_store_options& options,
                             const store_sizes& sizes) {
    const std::uint64_t slots = budget_bytes / sizes.slot_bytes;
    const auto needed = static_cast<std::uint64_t>(options.top_k);
    if (slots < needed)
        return fail(errc::budget_too_small, "a budget of " + std::to_string(budget_bytes) + " bytes holds " +
                                                std::to_string(slots) + " experts of " +
                                                std::to_string(sizes.slot_bytes) + " bytes, but one token needs " +
                                                std::to_string(needed) + " at once: give the experts at least " +
                                                std::to_string(needed * sizes.slot_bytes) + " bytes");
    return static_cast<slot_index>(std::min(slots, static_cast<std::uint64_t>(sizes.routed_experts)));
}

} // namespace

double expert_store_statistics::hit_rate() const noexcept {
    const std::uint64_t acquired = hits + demand_loads;
    return acquired == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(acquired);
}

struct expert_lease::impl {
    struct member {
        slot_index slot = 0;
        std::uint32_t generation = 0;
        std::shared_ptr<expert_load> load; // null: was resident
    };

    explicit impl(expert_store::impl& owner) : store(&owner) {}
    impl(const impl&) = delete;
    impl& operator=(const impl&) = delete;
    ~impl();

    expert_store::impl* store;
    std::vector<member> members; // in the order of `experts`
    std::vector<std::int32_t> experts, resident, missing;
};

/// Everything but the arena's bytes is guarded by `lock`.
struct expert_store::impl {
    using wave = expert_lease::impl;

    impl(const expert_store_options& wanted, const store_sizes& numbers, slab_source& from, slab_arena memory,
         std::unique_ptr<eviction_policy> normal);

    result<void> check_wave(std::int32_t layer, std::span<const std::int32_t> experts);
    result<void> wait_for_slots(std::int32_t layer, std::span<const std::int32_t> experts,
                                std::unique_lock<std::mutex>& held);
    void pin(std::int32_t layer, std::span<const std::int32_t> experts, wave& taken);
    void release(wave& ended);
    result<void> wait(wave& wanted);
    void finished(expert_load& load);
    void slots_changed();
    void configure(slot_index slots);

    const expert_store_options options;
    const store_sizes sizes;
    slab_source& source;
    mutable std::mutex lock;
    std::condition_variable slots_freed;
    std::uint64_t next_ticket = 0, served_ticket = 0; // acquirers that wait for slots, first come first served
    slab_arena arena;
    std::unique_ptr<eviction_policy> normal_policy, bypass_policy;
    residency_table table;
    std::vector<std::shared_ptr<expert_load>> load_by_slot; // while loading
    std::vector<bool> seen;                                 // [experts], for check_wave; false between calls
    std::vector<residency_table::pin> pins;                 // for pin(); empty between calls
    expert_store_statistics counters;
    transfer_queue queue; // last: its threads use all of the above
};

expert_store::impl::impl(const expert_store_options& wanted, const store_sizes& numbers, slab_source& from,
                         slab_arena memory, std::unique_ptr<eviction_policy> normal)
    : options(wanted), sizes(numbers), source(from), arena(std::move(memory)), normal_policy(std::move(normal)),
      bypass_policy(make_lru_policy(true)),
      table({.layers = wanted.layers,
             .experts = wanted.experts,
             .slots_max = static_cast<slot_index>(std::min(arena.capacity_bytes() / numbers.slot_bytes,
                                                           static_cast<std::uint64_t>(numbers.routed_experts))),
             .base_address = reinterpret_cast<std::uintptr_t>(arena.base()),
             .slot_bytes = numbers.slot_bytes,
             .layout_id = wanted.layout_id}),
      load_by_slot(static_cast<std::size_t>(numbers.routed_experts)), seen(static_cast<std::size_t>(wanted.experts)),
      queue(from, lock, [this](expert_load& load) { finished(load); }) {
    if (!normal_policy)
        normal_policy = make_lru_policy(false);
    counters.budget_bytes = wanted.budget_bytes;
}

void expert_store::impl::configure(slot_index slots) {
    counters.bypass = slots < sizes.slots_floor;
    eviction_policy& policy = counters.bypass ? *bypass_policy : *normal_policy;
    counters.policy = policy.name();
    table.configure(slots, policy);
}

result<void> expert_store::impl::check_wave(std::int32_t layer, std::span<const std::int32_t> experts) {
    if (layer < 0 || layer >= options.layers)
        return fail(errc::invalid_argument,
                    "no layer " + std::to_string(layer) + " of " + std::to_string(options.layers));
    if (experts.size() > static_cast<std::size_t>(table.slots()))
        return fail(errc::invalid_argument, "a wave of " + std::to_string(experts.size()) + " experts, but " +
                                                std::to_string(table.slots()) + " slots: split it");
    std::optional<std::int32_t> bad;
    std::size_t marked = 0;
    for (; marked < experts.size() && !bad; ++marked) {
        const std::int32_t expert = experts[marked];
        if (expert < 0 || expert >= options.experts || seen[static_cast<std::size_t>(expert)])
            bad = expert;
        else
            seen[static_cast<std::size_t>(expert)] = true;
    }
    for (const std::int32_t expert : experts.first(bad ? marked - 1 : marked))
        seen[static_cast<std::size_t>(expert)] = false;
    if (bad)
        return fail(errc::invalid_argument, "expert " + std::to_string(*bad) + " is not one of " +
                                                std::to_string(options.experts) + ", or is in the wave twice");
    return {};
}

result<void> expert_store::impl::wait_for_slots(std::int32_t layer, std::span<const std::int32_t> experts,
                                                std::unique_lock<std::mutex>& held) {
    if (next_ticket == served_ticket && table.fits(layer, experts))
        return {};
    const std::uint64_t ticket = next_ticket++;
    result<void> possible;
    slots_freed.wait(held, [&] {
        if (ticket != served_ticket)
            return false;
        possible = check_wave(layer, experts); // a resize may have made it too large
        return !possible || table.fits(layer, experts);
    });
    ++served_ticket;
    slots_changed(); // the next in line may fit too
    return possible;
}

void expert_store::impl::slots_changed() {
    if (next_ticket != served_ticket)
        slots_freed.notify_all();
    // After a shrink: memory above the bound goes back as soon as its last slot is empty.
    const std::uint64_t bound_bytes = static_cast<std::uint64_t>(table.slots()) * sizes.slot_bytes;
    if (arena.usable_bytes() - bound_bytes < std::max(sizes.slot_bytes, slab_arena::page_bytes_max))
        return;
    arena.shrink(std::max(bound_bytes, static_cast<std::uint64_t>(table.occupied_end()) * sizes.slot_bytes));
}

void expert_store::impl::pin(std::int32_t layer, std::span<const std::int32_t> experts, wave& taken) {
    table.pin_wave(layer, experts, pins);
    ++counters.waves;
    taken.experts.assign(experts.begin(), experts.end());
    taken.members.reserve(pins.size());
    for (const residency_table::pin& pin : pins) {
        auto& load = load_by_slot[static_cast<std::size_t>(pin.slot)];
        if (pin.state == slot_state::empty) {
            load = std::make_shared<expert_load>();
            load->expert = {layer, pin.expert};
            load->slot = pin.slot;
            load->slab = {reinterpret_cast<std::byte*>(table.slot_address(pin.slot)), options.slab_bytes};
            queue.push(load);
        }
        const bool resident = pin.state == slot_state::resident;
        taken.members.push_back({pin.slot, pin.generation, resident ? nullptr : load});
        (resident ? taken.resident : taken.missing).push_back(pin.expert);
    }
    counters.hits += taken.resident.size();
    counters.demand_loads += taken.missing.size();
    pins.clear();
}

void expert_store::impl::finished(expert_load& load) {
    load_by_slot[static_cast<std::size_t>(load.slot)].reset();
    if (load.state == load_state::done) {
        counters.demand_bytes += source.disk_bytes();
        table.complete(load.slot);
    } else {
        table.abandon(load.slot);
    }
    slots_changed();
}

void expert_store::impl::release(wave& ended) {
    const std::lock_guard held(lock);
    for (wave::member& member : ended.members) {
        // A failed load ended all pins of its slot, which may be somebody else's by now.
        if (member.load && member.load->state == load_state::failed)
            continue;
        if (member.load && table.pins(member.slot) == 1 && queue.cancel(member.load)) {
            load_by_slot[static_cast<std::size_t>(member.slot)].reset();
            table.abandon(member.slot); // nobody wants it any more and nobody has begun to read it
            continue;
        }
        table.unpin(member.slot);
    }
    slots_changed();
}

result<void> expert_store::impl::wait(wave& wanted) {
    std::unique_lock held(lock);
    const auto begin = std::chrono::steady_clock::now();
    bool stalled = false;
    result<void> outcome;
    // First whatever nobody has begun: sleeping for a running load would leave a queued one lying.
    for (const wave::member& member : wanted.members) {
        if (!member.load || member.load->over())
            continue;
        stalled = true;
        queue.help(member.load, held);
        if (member.load->state == load_state::failed)
            break;
    }
    for (const wave::member& member : wanted.members) {
        if (!member.load)
            continue;
        if (member.load->state != load_state::queued)
            queue.wait(*member.load, held);
        if (member.load->state == load_state::failed) {
            outcome = tl::unexpected(member.load->failure);
            break;
        }
    }
    if (stalled)
        counters.stall_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return outcome;
}

expert_lease::impl::~impl() {
    store->release(*this);
}

expert_lease::expert_lease(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
expert_lease::expert_lease() noexcept = default;
expert_lease::expert_lease(expert_lease&&) noexcept = default;
expert_lease& expert_lease::operator=(expert_lease&&) noexcept = default;
expert_lease::~expert_lease() = default;

std::span<const std::int32_t> expert_lease::experts() const noexcept {
    return impl_ ? std::span<const std::int32_t>(impl_->experts) : std::span<const std::int32_t>();
}

std::span<const std::int32_t> expert_lease::resident() const noexcept {
    return impl_ ? std::span<const std::int32_t>(impl_->resident) : std::span<const std::int32_t>();
}

std::span<const std::int32_t> expert_lease::missing() const noexcept {
    return impl_ ? std::span<const std::int32_t>(impl_->missing) : std::span<const std::int32_t>();
}

std::uint32_t expert_lease::generation(std::int32_t expert) const noexcept {
    const auto wave = experts();
    const auto found = std::find(wave.begin(), wave.end(), expert);
    return found == wave.end() ? 0 : impl_->members[static_cast<std::size_t>(found - wave.begin())].generation;
}

result<void> expert_lease::wait() {
    if (!impl_ || impl_->missing.empty())
        return {};
    return impl_->store->wait(*impl_);
}

expert_store::expert_store(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
expert_store::~expert_store() = default;

result<std::unique_ptr<expert_store>> expert_store::create(const expert_store_options& options, slab_source& source,
                                                           std::unique_ptr<eviction_policy> policy) {
    const auto sizes = check_options(options, source);
    if (!sizes)
        return tl::unexpected(sizes.error());
    const auto slots = slots_for(options.budget_bytes, options, *sizes);
    if (!slots)
        return tl::unexpected(slots.error());
    auto arena = slab_arena::create(static_cast<std::uint64_t>(*slots) * sizes->slot_bytes,
                                    static_cast<std::uint64_t>(sizes->routed_experts) * sizes->slot_bytes);
    if (!arena)
        return tl::unexpected(arena.error());
    auto parts = std::make_unique<impl>(options, *sizes, source, std::move(*arena), std::move(policy));
    parts->configure(*slots);
    if (auto started = parts->queue.start(options.loader_threads); !started)
        return tl::unexpected(started.error());
    return std::unique_ptr<expert_store>(new expert_store(std::move(parts)));
}

std::vector<std::int32_t> expert_store::residents_first(std::int32_t layer,
                                                        std::span<const std::int32_t> experts) const {
    std::vector<std::int32_t> ordered(experts.begin(), experts.end());
    const std::lock_guard held(impl_->lock);
    const moira_expert_entry* entries = table(layer);
    std::stable_partition(ordered.begin(), ordered.end(), [&](std::int32_t expert) {
        return entries && expert >= 0 && expert < impl_->options.experts && entries[expert].address != 0;
    });
    return ordered;
}

result<expert_lease> expert_store::acquire(std::int32_t layer, std::span<const std::int32_t> experts) {
    auto wave = std::make_unique<expert_lease::impl>(*impl_);
    std::unique_lock held(impl_->lock);
    auto possible = impl_->check_wave(layer, experts);
    if (possible)
        possible = impl_->wait_for_slots(layer, experts, held);
    if (possible)
        impl_->pin(layer, experts, *wave);
    held.unlock();
    if (!possible)
        return tl::unexpected(possible.error());
    return expert_lease(std::move(wave));
}

std::int32_t expert_store::wave_experts_max() const noexcept {
    const std::lock_guard held(impl_->lock);
    return impl_->table.slots();
}

const moira_expert_entry* expert_store::table(std::int32_t layer) const noexcept {
    return layer < 0 || layer >= impl_->options.layers ? nullptr : impl_->table.entries(layer);
}

result<void> expert_store::resize(std::uint64_t budget_bytes) {
    const auto slots = slots_for(budget_bytes, impl_->options, impl_->sizes);
    if (!slots)
        return tl::unexpected(slots.error());
    const std::lock_guard held(impl_->lock);
    if (auto grown = impl_->arena.grow(static_cast<std::uint64_t>(*slots) * impl_->sizes.slot_bytes); !grown)
        return grown;
    impl_->configure(*slots);
    impl_->counters.budget_bytes = budget_bytes;
    impl_->slots_changed();
    return {};
}

expert_store_statistics expert_store::statistics() const {
    const std::lock_guard held(impl_->lock);
    expert_store_statistics shown = impl_->counters;
    shown.slots = static_cast<std::uint64_t>(impl_->table.slots());
    shown.resident = static_cast<std::uint64_t>(impl_->table.resident());
    shown.slots_floor = static_cast<std::uint64_t>(impl_->sizes.slots_floor);
    shown.evictions = impl_->table.evictions();
    shown.load_failures = impl_->queue.failures();
    shown.load_retries = impl_->queue.retries();
    return shown;
}

std::vector<std::string> expert_store::notices() const {
    std::vector<std::string> sentences;
    const expert_store_statistics now = statistics();
    if (now.bypass)
        sentences.push_back("the budget holds " + std::to_string(now.slots) + " experts, fewer than the " +
                            std::to_string(now.slots_floor) + " (" + std::to_string(impl_->options.moe_layers) +
                            " layers x top " + std::to_string(impl_->options.top_k) +
                            ") that one token visits: evicting the newest (bypass) instead of policy " +
                            std::string(impl_->normal_policy->name()) + "; from " +
                            std::to_string(now.slots_floor * impl_->sizes.slot_bytes) + " bytes on it works");
    return sentences;
}

} // namespace moira
