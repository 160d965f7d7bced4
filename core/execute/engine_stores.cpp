#include "core/base/checked.hpp"
#include "core/execute/device_slots.hpp"
#include "core/execute/engine_parts.hpp"
#include "core/execute/host_tier_source.hpp"
#include "core/execute/memory_plan.hpp"
#include "core/experts/available_memory.hpp"

#include <algorithm>
#include <cmath>

// Where experts live: one store on the device, over one in host memory where the device has memory of its own.

namespace moira {

namespace {

/// Experts that a store in host memory holds below one that keeps all of them on the device: what is on its way. More
/// would be copies that nobody asks for again.
constexpr std::uint64_t passing_experts(std::uint64_t top_k, std::uint32_t loader_threads) {
    return std::max<std::uint64_t>(top_k, std::uint64_t{loader_threads} + 1);
}

/// Says which setting a refused budget came from.
error of_setting(const char* setting, const error& why) {
    return {why.code, std::string(setting) + ": " + why.message};
}

} // namespace

std::uint64_t expert_budget::resolve(std::uint64_t all_bytes) const noexcept {
    if (automatic)
        return all_bytes;
    return share > 0 ? static_cast<std::uint64_t>(std::llround(share * static_cast<double>(all_bytes))) : bytes;
}

/// Of every tier; without a budget.
expert_store_options engine::impl::store_options() const {
    const auto& shape = model.shape();
    expert_store_options wanted;
    wanted.layers = shape.layers + mtp_modules(options);
    if (options.mtp)
        wanted.module_layer = shape.layers;
    wanted.experts = shape.moe.experts;
    wanted.top_k = shape.moe.top_k;
    wanted.moe_layers = shape.moe_layers() + mtp_modules(options);
    wanted.slab_bytes = source->slab_bytes();
    wanted.slab_alignment = std::max(packing.info.alignment, device_alignment);
    wanted.layout_id = packing.info.layout_id;
    wanted.loader_threads = options.loader_threads;
    return wanted;
}

/// The budget of the store that kernels read, and whether the embedding table stays on disk for it.
result<std::uint64_t> engine::impl::plan_kernel_store(std::uint64_t all_bytes) {
    const auto budget = own_memory ? options.vram_budget : options.ram_budget();
    const auto asked = budget.resolve(all_bytes);
    const auto wanted = std::min(asked, all_bytes);
    arena_extras.with_mtp = options.mtp;
    arena_extras.workspace_bytes = ops.workspace_bytes();
    const auto* table = embedding_worth_leaving(model, names, limits);
    const auto reading = (std::uint64_t{options.loader_threads} + 1) * source->scratch_bytes();
    const auto available = own_memory ? own_memory->bytes_free : available_memory_bytes();
    const auto needs = [&](const tensor_location* left, bool experts_move) {
        auto made = needs_beside_experts(model, names, limits, arena_extras, reading, left, experts_move);
        return own_memory ? device_part(made, own_memory->bytes_total) : made;
    };
    // Memory is worth more to experts than to a table of which a token reads one row.
    const bool fits_all = wanted == all_bytes &&
                          (!budget.automatic || plan_expert_budget(needs(nullptr, false), all_bytes, false, available));
    if (table && !fits_all)
        arena_extras.embedding_row_bytes = table->bytes / static_cast<std::uint64_t>(table->shape[0]);
    auto planned =
        plan_expert_budget(fits_all ? needs(nullptr, false) : needs(table, true), wanted, budget.automatic, available);
    return planned && !budget.automatic ? asked : planned;
}

/// The store in host memory below the one on the device, which keeps `slots` of `routed` experts.
result<void> engine::impl::create_host_tier(const op_provider& memory, const expert_store_options& wanted,
                                            std::uint64_t device_budget, std::uint64_t all_bytes) {
    auto host = wanted;
    const auto slot_bytes = round_up(host.slab_bytes, host.slab_alignment);
    const auto budget = options.ram_budget();
    host.budget_bytes = std::min(budget.resolve(all_bytes), all_bytes);
    if (device_budget >= all_bytes)
        host.budget_bytes =
            std::min(host.budget_bytes,
                     slot_bytes * passing_experts(static_cast<std::uint64_t>(host.top_k), host.loader_threads));
    const auto reading = (std::uint64_t{options.loader_threads} + 1) * source->scratch_bytes();
    const auto needs = needs_beside_experts(model, names, limits, arena_extras, reading, nullptr, true);
    auto planned = plan_expert_budget(host_part(needs), host.budget_bytes, budget.automatic, available_memory_bytes());
    if (!planned)
        return tl::unexpected(planned.error());
    host.budget_bytes = *planned;
    // It sees misses alone, whose order says nothing of a layer's visits: no policy that reads more out of it.
    auto policy = make_eviction_policy("lru_layer",
                                       {.layers = host.layers, .experts = host.experts, .moe_layers = host.moe_layers});
    if (!policy)
        return tl::unexpected(policy.error());
    auto made = expert_store::create(host, *source, std::move(*policy),
                                     make_device_slots(memory, slot_place::page_locked, host.slab_alignment));
    if (!made)
        return tl::unexpected(of_setting("experts.ram_budget", made.error()));
    host_store = std::move(*made);
    host_tier = std::make_unique<host_tier_source>(*host_store, memory, host.slab_bytes);
    return {};
}

result<void> engine::impl::create_stores(const expert_execution& experts, const op_provider& memory) {
    packing = experts.packing;
    auto made_source = make_checkpoint_slab_source(model, names, *experts.op->provider, options.io, options.precision);
    if (!made_source)
        return tl::unexpected(made_source.error());
    source = std::move(*made_source);
    auto own = memory_of(memory);
    if (!own)
        return tl::unexpected(own.error());
    own_memory = *own;
    auto wanted = store_options();
    const auto routed = static_cast<std::uint64_t>(wanted.moe_layers) * static_cast<std::uint64_t>(wanted.experts);
    const auto all_bytes = round_up(wanted.slab_bytes, wanted.slab_alignment) * routed;
    const auto refused = [&](const error& why) { return fail(why.code, model.folder().string() + ": " + why.message); };
    const auto planned = plan_kernel_store(all_bytes);
    if (!planned)
        return refused(planned.error());
    wanted.budget_bytes = *planned;
    auto policy = make_eviction_policy(
        options.eviction_policy, {.layers = wanted.layers, .experts = wanted.experts, .moe_layers = wanted.moe_layers});
    if (!policy)
        return tl::unexpected(policy.error());
    if (own_memory)
        if (auto done = create_host_tier(memory, wanted, wanted.budget_bytes, all_bytes); !done)
            return refused(done.error());
    auto made_store = expert_store::create(
        wanted, host_tier ? *host_tier : *source, std::move(*policy),
        own_memory ? make_device_slots(memory, slot_place::device, wanted.slab_alignment) : slot_memory_maker());
    if (!made_store)
        return own_memory ? refused(of_setting("experts.vram_budget", made_store.error()))
                          : tl::unexpected(made_store.error());
    store = std::move(*made_store);
    if (store->statistics().slots < routed)
        allow_long_steps();
    return {};
}

/// Such a step reads nearly all experts of a layer in any case: to replace some by others that are here would cost
/// quality and save nothing. And the module wants the last states of all rows at once.
void engine::impl::allow_long_steps() {
    if (mtp_modules(options) == 0 && options.pruning.mode != pruning_mode::cache_aware)
        step_rows = std::max(limits.rows_max,
                             long_step_rows(model.shape(), static_cast<std::int64_t>(store->statistics().slots)));
}

/// The store's own tables are host memory, which no other device reads.
result<void> engine::impl::create_tables(const op_provider& memory) {
    if (!own_memory)
        return {};
    const auto wanted = store_options();
    auto made = device_expert_tables::create(memory, wanted.layers, wanted.experts);
    if (!made)
        return tl::unexpected(made.error());
    arena.tables = std::move(*made);
    return {};
}

} // namespace moira
