#include "core/experts/expert_store_parts.hpp"

#include <algorithm>
#include <chrono>
#include <optional>

namespace moira {
double expert_store_statistics::hit_rate() const noexcept {
    const std::uint64_t acquired = hits + demand_loads;
    return acquired == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(acquired);
}

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
             .layout_id = wanted.layout_id,
             .pass_waves = static_cast<std::uint64_t>(wanted.moe_layers)}),
      load_by_slot(static_cast<std::size_t>(numbers.routed_experts)), seen(static_cast<std::size_t>(wanted.experts)),
      hints(wanted.experts),
      queue(
          from, lock, [this](expert_load& load) { finished(load); }, [this] { return next_speculative(); }) {
    absent.reserve(seen.size());
    if (!normal_policy)
        normal_policy = make_lru_policy(false);
    counters.budget_bytes = wanted.budget_bytes;
}

void expert_store::impl::configure(slot_index slots) {
    counters.bypass = slots < sizes.slots_floor;
    const bool replaced = counters.bypass && !normal_policy->works_below_floor();
    eviction_policy& policy = replaced ? *bypass_policy : *normal_policy;
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

void expert_store::impl::pin(std::int32_t layer, std::span<const std::int32_t> experts,
                             std::span<const std::int32_t> drafted, std::span<const std::int32_t> prompt_only,
                             bool continues, wave& taken) {
    hints.wave_begins(layer, std::chrono::steady_clock::now());
    table.pin_wave(layer, experts, pins, prompt_only, continues);
    ++counters.waves;
    taken.experts.assign(experts.begin(), experts.end());
    taken.members.reserve(pins.size());
    bool met = false;
    for (const residency_table::pin& pin : pins) {
        auto& load = load_by_slot[static_cast<std::size_t>(pin.slot)];
        note_prefetched(layer, pin);
        if (pin.state == slot_state::empty) {
            load = make_load({layer, pin.expert}, pin.slot);
            load->drafted = std::binary_search(drafted.begin(), drafted.end(), pin.expert);
            met = queue.speculating();
            queue.push(load);
        }
        const bool resident = pin.state == slot_state::resident;
        taken.members.push_back({pin.slot, pin.generation, resident ? nullptr : load});
        (resident ? taken.resident : taken.missing).push_back(pin.expert);
        count_demand(layer, pin.expert, resident, drafted);
    }
    met_by_demand += met;
    pins.clear();
}

void expert_store::impl::count_demand(std::int32_t layer, std::int32_t expert, bool resident,
                                      std::span<const std::int32_t> drafted) {
    if (of_module(layer))
        ++(resident ? counters.module.hits : counters.module.demand_loads);
    else if (std::binary_search(drafted.begin(), drafted.end(), expert))
        ++(resident ? counters.drafted.hits : counters.drafted.demand_loads);
    else
        ++(resident ? counters.hits : counters.demand_loads);
}

std::uint64_t& expert_store::impl::demand_bytes(const expert_load& load) {
    return of_module(load.expert.layer) ? counters.module.demand_bytes
           : load.drafted               ? counters.drafted.demand_bytes
                                        : counters.demand_bytes;
}

std::shared_ptr<expert_load> expert_store::impl::make_load(expert_id expert, slot_index slot) {
    auto load = std::make_shared<expert_load>();
    load->expert = expert;
    load->slot = slot;
    load->slab = {reinterpret_cast<std::byte*>(table.slot_address(slot)), options.slab_bytes};
    return load;
}

/// What the hint has to do with an expert that a wave asks for. One that is on its way is joined: whoever waits for it
/// waits for the read that has begun.
void expert_store::impl::note_prefetched(std::int32_t layer, const residency_table::pin& pin) {
    if (pin.speculative || pin.state == slot_state::empty)
        hints.missed(layer, pin.expert);
    if (pin.state == slot_state::loading)
        load_by_slot[static_cast<std::size_t>(pin.slot)]->wanted = true;
}

void expert_store::impl::finished(expert_load& load) {
    load_by_slot[static_cast<std::size_t>(load.slot)].reset();
    if (load.state == load_state::done) {
        if (!load.prefetched)
            demand_bytes(load) += source.disk_bytes();
        table.complete(load.slot);
    } else {
        table.abandon(load.slot);
    }
    slots_changed();
}

std::shared_ptr<expert_load> expert_store::impl::next_speculative() {
    while (const auto hint = hints.take()) {
        const expert_id expert{hints.layer(), hint->expert};
        const bool may_evict = !counters.bypass;
        const bool slots_wanted = next_ticket != served_ticket; // a wave waits for slots
        const auto room = slots_wanted || table.holds(expert) ? residency_table::speculative_room::none
                                                              : table.room_for_speculation(expert, may_evict);
        const auto slot = worth_loading(*hint, room) ? table.take_speculative(expert, may_evict) : std::nullopt;
        if (!slot) {
            hints.refuse();
            continue;
        }
        auto load = make_load(expert, *slot);
        load->prefetched = true;
        load_by_slot[static_cast<std::size_t>(*slot)] = load;
        return load;
    }
    return next_of_profile();
}

bool expert_store::impl::worth_loading(const expert_hint& hint, residency_table::speculative_room room) const {
    if (room == residency_table::speculative_room::none || hints.policy.mode == prefetch_mode::off)
        return false;
    const bool evicts = room == residency_table::speculative_room::evicts;
    return hints.policy.mode == prefetch_mode::always ||
           estimate_prefetch(static_cast<double>(hint.probability), evicts, hints.policy.idle_core, measured())
               .worthwhile();
}

prefetch_figures expert_store::impl::measured() const {
    const auto share = [](std::uint64_t part, std::uint64_t whole) {
        return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
    };
    const auto& speculation = table.speculation();
    prefetch_figures figures;
    const auto loads = counters.demand_loads + counters.drafted.demand_loads + counters.module.demand_loads;
    if (loads > 0)
        figures.stall_per_load_s = counters.stall_s / static_cast<double>(loads);
    figures.lead_s = hints.lead_s();
    figures.read_s = queue.read_s();
    figures.cpu_s = queue.cpu_s();
    figures.contention = share(met_by_demand, speculation.taken);
    figures.regret = share(speculation.regretted, speculation.evictions);
    return figures;
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

resident_order expert_store::residents_first(std::int32_t layer, std::span<const std::int32_t> experts) const {
    resident_order ordered{{experts.begin(), experts.end()}, 0};
    const std::lock_guard held(impl_->lock);
    const moira_expert_entry* entries = table(layer);
    const auto absent = std::stable_partition(ordered.experts.begin(), ordered.experts.end(), [&](std::int32_t expert) {
        return entries && expert >= 0 && expert < impl_->options.experts && entries[expert].address != 0;
    });
    ordered.residents = static_cast<std::size_t>(absent - ordered.experts.begin());
    return ordered;
}

result<expert_lease> expert_store::acquire(std::int32_t layer, std::span<const std::int32_t> experts,
                                           std::span<const std::int32_t> drafted,
                                           std::span<const std::int32_t> prompt_only, bool continues) {
    auto wave = std::make_unique<expert_lease::impl>(*impl_);
    std::unique_lock held(impl_->lock);
    auto possible = impl_->check_wave(layer, experts);
    if (possible)
        possible = impl_->wait_for_slots(layer, experts, held);
    if (possible)
        impl_->pin(layer, experts, drafted, prompt_only, continues, *wave);
    held.unlock();
    if (!possible)
        return tl::unexpected(possible.error());
    return expert_lease(std::move(wave));
}

result<std::optional<expert_lease>> expert_store::try_acquire(std::int32_t layer, std::span<const std::int32_t> experts,
                                                              std::span<const std::int32_t> drafted,
                                                              std::span<const std::int32_t> prompt_only,
                                                              bool continues) {
    auto wave = std::make_unique<expert_lease::impl>(*impl_);
    const std::lock_guard held(impl_->lock);
    if (auto possible = impl_->check_wave(layer, experts); !possible)
        return tl::unexpected(possible.error());
    if (impl_->next_ticket != impl_->served_ticket || !impl_->table.fits(layer, experts))
        return std::optional<expert_lease>();
    impl_->pin(layer, experts, drafted, prompt_only, continues, *wave);
    return expert_lease(std::move(wave));
}

std::int32_t expert_store::travelling_max() const noexcept {
    return static_cast<std::int32_t>(impl_->options.loader_threads) + 1; // one waits for the loader that is done first
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

void expert_store::set_prefetch(const prefetch_policy& policy) {
    const std::lock_guard held(impl_->lock);
    impl_->hints.policy = policy;
}

bool expert_store::wants_hints() const {
    const std::lock_guard held(impl_->lock);
    const auto& table = impl_->table;
    // With a certain prediction and a free slot: what no hint can beat.
    return impl_->queue.can_speculate() && table.resident() < impl_->sizes.routed_experts &&
           impl_->worth_loading({0, 1.0F}, residency_table::speculative_room::free);
}

void expert_store::hint(std::int32_t layer, std::span<const expert_hint> experts) {
    const std::lock_guard held(impl_->lock);
    const bool known = layer >= 0 && layer < impl_->options.layers;
    for (const expert_hint& hint : experts)
        if (known && hint.expert >= 0 && hint.expert < impl_->options.experts &&
            !impl_->table.holds({layer, hint.expert}))
            impl_->absent.push_back(hint);
    if (known && std::all_of(experts.begin(), experts.end(), [this](const expert_hint& hint) {
            return hint.expert >= 0 && hint.expert < impl_->options.experts;
        }))
        impl_->table.hinted(layer, experts);
    impl_->hints.give(layer, impl_->absent, experts.size(), std::chrono::steady_clock::now());
    impl_->absent.clear();
    if (impl_->hints.waiting() > 0)
        impl_->queue.speculate();
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
    const auto& speculation = impl_->table.speculation();
    shown.prefetch_loads = speculation.taken;
    shown.profile_loads = impl_->warmup.loads();
    shown.prefetch_useful = speculation.used;
    shown.prefetch_wasted = speculation.unused;
    shown.prefetch_wasted_bytes = speculation.unused * impl_->source.disk_bytes();
    shown.prefetch_open = impl_->table.speculative_slots();
    shown.hints = impl_->hints.counts();
    shown.hints_waiting = impl_->hints.waiting();
    shown.prefetch_measured = impl_->measured();
    return shown;
}

std::vector<std::string> expert_store::notices() const {
    std::vector<std::string> sentences;
    const expert_store_statistics now = statistics();
    if (now.bypass) {
        const bool replaced = now.policy != impl_->normal_policy->name();
        sentences.push_back(
            "the budget holds " + std::to_string(now.slots) + " experts, fewer than the " +
            std::to_string(now.slots_floor) + " (" + std::to_string(impl_->options.moe_layers) + " layers x top " +
            std::to_string(impl_->options.top_k) + ") that one token visits: " +
            (replaced ? "evicting the newest (bypass) instead of policy " + std::string(impl_->normal_policy->name())
                      : "nothing is loaded ahead of time") +
            "; from " + std::to_string(now.slots_floor * impl_->sizes.slot_bytes) + " bytes on " +
            (replaced ? "it works" : "that is done"));
    }
    return sentences;
}

} // namespace moira
