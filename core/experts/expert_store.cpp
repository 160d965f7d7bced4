#include "core/experts/expert_store_parts.hpp"
#include "core/experts/locked_memory.hpp"
#include "core/experts/slab_arena.hpp"

#include <algorithm>

namespace moira {

expert_store::impl::impl(const expert_store_options& wanted, const store_sizes& numbers, slab_source& from,
                         std::unique_ptr<slot_memory> slots_memory, std::unique_ptr<eviction_policy> normal)
    : options(wanted), sizes(numbers), source(from), memory(std::move(slots_memory)), normal_policy(std::move(normal)),
      bypass_policy(make_lru_policy(true)),
      table({.layers = wanted.layers,
             .experts = wanted.experts,
             .slots_max = static_cast<slot_index>(std::min(memory->capacity_bytes() / numbers.slot_bytes,
                                                           static_cast<std::uint64_t>(numbers.routed_experts))),
             .base_address = memory->address(),
             .slot_bytes = numbers.slot_bytes,
             .layout_id = wanted.layout_id,
             .pass_waves = static_cast<std::uint64_t>(wanted.moe_layers)}),
      load_by_slot(static_cast<std::size_t>(numbers.routed_experts)), seen(static_cast<std::size_t>(wanted.experts)),
      hints(wanted.experts), by_layer(wanted.layers),
      curve(wanted.layers, wanted.experts, miss_curve::cheap_stride(wanted.layers)),
      window(wanted.layers, wanted.experts),
      queue(
          from, lock, [this](expert_load& load) { finished(load); }, [this] { return next_speculative(); }) {
    absent.reserve(seen.size());
    begun_by_slot.resize(load_by_slot.size());
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
    window.restart(slots, table);
}

expert_store::expert_store(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
expert_store::~expert_store() = default;

static result<std::unique_ptr<slot_memory>> host_slots(std::uint64_t bytes, std::uint64_t bytes_max) {
    auto arena = slab_arena::create(bytes, bytes_max);
    if (!arena)
        return tl::unexpected(arena.error());
    return std::make_unique<slab_arena>(std::move(*arena));
}

result<std::unique_ptr<expert_store>> expert_store::create(const expert_store_options& options, slab_source& source,
                                                           std::unique_ptr<eviction_policy> policy,
                                                           const slot_memory_maker& make_memory) {
    const auto sizes = check_options(options, source);
    if (!sizes)
        return tl::unexpected(sizes.error());
    const auto slots = slots_for(options.budget_bytes, options, *sizes);
    if (!slots)
        return tl::unexpected(slots.error());
    const auto bytes = static_cast<std::uint64_t>(*slots) * sizes->slot_bytes;
    const auto bytes_max = static_cast<std::uint64_t>(sizes->routed_experts) * sizes->slot_bytes;
    auto memory = make_memory ? make_memory(bytes, bytes_max) : host_slots(bytes, bytes_max);
    if (!memory)
        return tl::unexpected(memory.error());
    auto parts = std::make_unique<impl>(options, *sizes, source, std::move(*memory), std::move(policy));
    parts->configure(*slots);
    if (auto started = parts->queue.start(options.loader_threads); !started)
        return tl::unexpected(started.error());
    return std::unique_ptr<expert_store>(new expert_store(std::move(parts)));
}

bool expert_store::impl::shows(std::int32_t layer, std::int32_t expert) const noexcept {
    return layer >= 0 && layer < options.layers && expert >= 0 && expert < options.experts &&
           table.entries(layer)[expert].address != 0;
}

std::vector<std::int32_t> expert_store::residents_first(std::int32_t layer,
                                                        std::span<const std::int32_t> experts) const {
    std::vector<std::int32_t> ordered(experts.begin(), experts.end());
    const std::lock_guard held(impl_->lock);
    std::stable_partition(ordered.begin(), ordered.end(),
                          [&](std::int32_t expert) { return impl_->shows(layer, expert); });
    return ordered;
}

void expert_store::mark_residents(std::int32_t layer, std::span<std::uint8_t> present) const {
    const std::lock_guard held(impl_->lock);
    for (std::size_t expert = 0; expert < present.size(); ++expert)
        present[expert] = impl_->shows(layer, static_cast<std::int32_t>(expert));
}

result<expert_lease> expert_store::acquire(std::int32_t layer, std::span<const std::int32_t> experts,
                                           std::span<const std::int32_t> drafted,
                                           std::span<const std::int32_t> prompt_only, bool continues) {
    auto wave = std::make_unique<expert_lease::impl>(*impl_);
    wave->layer = layer;
    wave->experts.assign(experts.begin(), experts.end());
    std::unique_lock held(impl_->lock);
    auto possible = impl_->check_wave(layer, experts);
    if (possible)
        possible = impl_->wait_for_slots(layer, experts, held);
    if (possible)
        impl_->pin({layer, experts, drafted, prompt_only}, continues, wave->members);
    held.unlock();
    if (!possible)
        return tl::unexpected(possible.error());
    for (std::size_t index = 0; index < experts.size(); ++index) {
        auto& member = wave->members[index];
        member.named = !member.load;
        (member.load ? wave->missing : wave->resident).push_back(experts[index]);
    }
    return expert_lease(std::move(wave));
}

std::int32_t expert_store::travelling_max() const noexcept {
    return static_cast<std::int32_t>(impl_->travelling_max());
}

std::int32_t expert_store::wave_experts_max() const noexcept {
    const std::lock_guard held(impl_->lock);
    return impl_->table.slots();
}

const moira_expert_entry* expert_store::table(std::int32_t layer) const noexcept {
    return layer < 0 || layer >= impl_->options.layers ? nullptr : impl_->table.entries(layer);
}

void expert_store::copy_table(std::int32_t layer, std::span<moira_expert_entry> entries) const {
    const std::lock_guard held(impl_->lock);
    std::copy_n(impl_->table.entries(layer), entries.size(), entries.begin());
}

result<void> expert_store::resize(std::uint64_t budget_bytes) {
    const auto slots = slots_for(budget_bytes, impl_->options, impl_->sizes);
    if (!slots)
        return tl::unexpected(slots.error());
    const std::uint64_t now_bytes = static_cast<std::uint64_t>(statistics().slots) * impl_->sizes.slot_bytes;
    const std::uint64_t more_bytes = static_cast<std::uint64_t>(*slots) * impl_->sizes.slot_bytes;
    // Touching memory that is not there would end the process, and not only this call.
    if (const auto available = impl_->memory->available_bytes();
        available > 0 && more_bytes > now_bytes && more_bytes - now_bytes > available)
        return fail(errc::out_of_memory, std::to_string(more_bytes - now_bytes) + " bytes more for experts, but only " +
                                             std::to_string(available) + " are available");
    std::unique_lock held(impl_->lock);
    ++impl_->resizes_waiting;
    impl_->holds_over.wait(held, [this] { return impl_->holds == 0; });
    --impl_->resizes_waiting;
    if (auto grown = impl_->memory->grow(static_cast<std::uint64_t>(*slots) * impl_->sizes.slot_bytes); !grown)
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
    shown.compute_s = impl_->step_s - impl_->step_stall_s;
    shown.step_stall_s = impl_->step_stall_s;
    shown.link_idle_s = impl_->step_s - impl_->step_busy_s;
    shown.slot_bytes = impl_->sizes.slot_bytes;
    shown.slots_all = static_cast<std::uint64_t>(impl_->sizes.routed_experts);
    shown.slots_to_halve = impl_->curve.slots_to_halve(shown.slots);
    shown.layers = impl_->by_layer.shown(impl_->table, impl_->source.disk_bytes());
    return shown;
}

expert_regret expert_store::regret() const {
    const std::lock_guard one_at_a_time(impl_->reckoning);
    const auto begin = std::chrono::steady_clock::now();
    if (impl_->reckoned && begin < impl_->reckoned_until)
        return *impl_->reckoned;
    visit_record latest;
    {
        const std::lock_guard held(impl_->lock);
        latest = impl_->window.copy();
    }
    impl_->reckoned = regret_of(latest);
    const auto end = std::chrono::steady_clock::now();
    using duration = std::chrono::steady_clock::duration;
    impl_->reckoned_until = end + std::min<duration>((end - begin) * regret_pause_factor, regret_age_max);
    return *impl_->reckoned;
}

void expert_store::begin_step() {
    const std::lock_guard held(impl_->lock);
    impl_->step_begun = std::chrono::steady_clock::now();
    impl_->busy_before_step_s = impl_->queue.busy_s(impl_->step_begun);
}

void expert_store::end_step(double stall_s) {
    const std::lock_guard held(impl_->lock);
    const auto now = std::chrono::steady_clock::now();
    impl_->step_s += std::chrono::duration<double>(now - impl_->step_begun).count();
    impl_->step_stall_s += stall_s;
    impl_->step_busy_s += impl_->queue.busy_s(now) - impl_->busy_before_step_s;
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
    if (const auto unlocked = impl_->memory->unlocked_bytes(); unlocked > 0)
        sentences.push_back(lock_refusal("experts", unlocked));
    return sentences;
}

} // namespace moira
