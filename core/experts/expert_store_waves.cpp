#include "core/experts/expert_store_parts.hpp"
#include "core/experts/slab_arena.hpp"

#include <algorithm>
#include <optional>

// Waves: pinning, loading on demand, waiting, and the leases that callers hold.

namespace moira {

result<void> expert_store::impl::check_experts(std::int32_t layer, std::span<const std::int32_t> experts) {
    if (layer < 0 || layer >= options.layers)
        return fail(errc::invalid_argument,
                    "no layer " + std::to_string(layer) + " of " + std::to_string(options.layers));
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
                                                std::to_string(options.experts) + ", or is asked for twice");
    return {};
}

result<void> expert_store::impl::check_wave(std::int32_t layer, std::span<const std::int32_t> experts) {
    if (experts.size() > static_cast<std::size_t>(table.slots()))
        return fail(errc::invalid_argument, "a wave of " + std::to_string(experts.size()) + " experts, but " +
                                                std::to_string(table.slots()) + " slots: split it");
    return check_experts(layer, experts);
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
    if (memory->usable_bytes() - bound_bytes < std::max(sizes.slot_bytes, slab_arena::page_bytes_max))
        return;
    memory->shrink(std::max(bound_bytes, static_cast<std::uint64_t>(table.occupied_end()) * sizes.slot_bytes));
}

/// Appends to `taken`.
void expert_store::impl::pin(const visit_wish& wish, bool continues, std::vector<wave_member>& taken) {
    if (!continues)
        hints.wave_begins(wish.layer, std::chrono::steady_clock::now());
    window.visit(wish.layer, wish.experts, continues, table);
    table.pin_wave(wish.layer, wish.experts, pins, wish.prompt_only, continues);
    ++counters.waves;
    bool met = false;
    for (const residency_table::pin& pin : pins) {
        auto& load = load_by_slot[static_cast<std::size_t>(pin.slot)];
        note_prefetched(wish.layer, pin);
        if (pin.state == slot_state::empty) {
            load = make_load({wish.layer, pin.expert}, pin.slot);
            by_layer.loading(wish.layer);
            window.loading(wish.layer);
            load->drafted = std::binary_search(wish.drafted.begin(), wish.drafted.end(), pin.expert);
            met = queue.speculating();
            queue.push(load);
        }
        const bool resident = pin.state == slot_state::resident;
        taken.push_back({pin.slot, pin.generation, resident ? nullptr : load});
        count_demand(wish.layer, pin.expert, resident, wish.drafted);
        by_layer.visited({wish.layer, pin.expert}, resident, pin.speculative);
        curve.visit({wish.layer, pin.expert});
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
    memory->use((static_cast<std::uint64_t>(slot) + 1) * sizes.slot_bytes);
    load->slab = {reinterpret_cast<std::byte*>(table.slot_address(slot)), options.slab_bytes};
    return load;
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

void expert_store::impl::end_pin(const wave_member& member) {
    // A failed load ended all pins of its slot, which may be somebody else's by now.
    if (member.load && member.load->state == load_state::failed)
        return;
    if (member.load && table.pins(member.slot) == 1 && queue.cancel(member.load)) {
        load_by_slot[static_cast<std::size_t>(member.slot)].reset();
        table.abandon(member.slot); // nobody wants it any more and nobody has begun to read it
        return;
    }
    table.unpin(member.slot);
}

void expert_store::impl::release(wave& ended) {
    const std::lock_guard held(lock);
    learn_stall(ended.members, ended.stall_s);
    for (const wave_member& member : ended.members)
        end_pin(member);
    slots_changed();
}

/// Returns the time since `begin`.
double expert_store::impl::note_stall(std::int32_t layer, std::chrono::steady_clock::time_point begin) {
    const std::chrono::duration<double> stall = std::chrono::steady_clock::now() - begin;
    counters.stall_s += stall.count();
    by_layer.waited(layer, stall.count());
    return stall.count();
}

/// What a load on demand costs whoever waits for it: the figure that hints must beat.
void expert_store::impl::learn_stall(std::span<const wave_member> members, double stall_s) {
    constexpr double newest_weight = 1.0 / 32; // the last few tokens
    const auto loads = std::count_if(members.begin(), members.end(),
                                     [](const wave_member& member) { return member.load && !member.load->prefetched; });
    if (loads == 0)
        return;
    const double each_s = stall_s / static_cast<double>(loads);
    stall_per_load_s += (stall_per_load_s > 0 ? newest_weight : 1.0) * (each_s - stall_per_load_s);
}

/// Until one that was not named is here; there is one.
void expert_store::impl::wait_for_some(std::span<wave_member> members, std::unique_lock<std::mutex>& held) {
    // With two loaders the disk has all it can serve, and this thread's time belongs to what arrives first. With fewer,
    // sleeping for a running load would leave a queued one lying.
    if (queue.threads() < 2)
        for (const wave_member& member : members)
            if (member.load)
                queue.help(member.load, held);
    const auto arrived = [](const wave_member& member) { return !member.named && member.here(); };
    queue.wait_until([&] { return std::any_of(members.begin(), members.end(), arrived); }, held);
}

void expert_store::impl::wait_for_all(std::span<wave_member> members, std::unique_lock<std::mutex>& held) {
    for (const wave_member& member : members)
        if (member.load)
            queue.help(member.load, held);
    const auto here = [](const wave_member& member) { return member.here(); };
    queue.wait_until([&] { return std::all_of(members.begin(), members.end(), here); }, held);
}

result<std::vector<std::int32_t>> expert_store::impl::wait_some(wave& wanted) {
    std::unique_lock held(lock);
    std::size_t left = 0, here = 0;
    for (const wave_member& member : wanted.members) {
        left += !member.named;
        here += !member.named && member.here();
    }
    if (left > 0 && here == 0) {
        const auto begin = std::chrono::steady_clock::now();
        wait_for_some(wanted.members, held);
        wanted.stall_s += note_stall(wanted.layer, begin);
    }
    std::vector<std::int32_t> arrived;
    for (std::size_t index = 0; index < wanted.members.size(); ++index) {
        wave_member& member = wanted.members[index];
        if (member.named || !member.here())
            continue;
        if (member.load->state != load_state::done) {
            wanted.failed = wanted.experts[index];
            return tl::unexpected(member.load->failure);
        }
        member.named = true;
        arrived.push_back(wanted.experts[index]);
    }
    return arrived;
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

std::optional<std::int32_t> expert_lease::failed() const noexcept {
    return impl_ ? impl_->failed : std::nullopt;
}

result<std::vector<std::int32_t>> expert_lease::wait_some() {
    if (!impl_ || impl_->missing.empty())
        return std::vector<std::int32_t>();
    return impl_->store->wait_some(*impl_);
}

} // namespace moira
