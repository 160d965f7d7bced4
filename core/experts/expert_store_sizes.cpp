#include "core/experts/expert_store_sizes.hpp"

#include "core/base/checked.hpp"
#include "core/experts/slab_arena.hpp"

#include <algorithm>

namespace moira {
namespace {

/// (layer, expert) pairs: more than thirty times the largest published model (61 layers of 256).
constexpr std::uint64_t entries_max = 1ULL << 19;

/// Threads beyond a handful only add latency; this bounds a typing error.
constexpr std::uint32_t loader_threads_max = 64;

} // namespace

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

} // namespace moira
