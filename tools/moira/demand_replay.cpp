#include "tools/moira/demand_replay.hpp"

#include "core/experts/residency_table.hpp"

#include <algorithm>

namespace moira {

namespace {

/// A store without bytes.
class replayed_store {
public:
    replayed_store(const model_shape& shape, slot_index slots, bool bypass)
        : policy_(make_lru_policy(bypass)), slots_(slots),
          table_({.layers = shape.layers,
                  .experts = shape.moe.experts,
                  .slots_max = slots,
                  .base_address = 0,
                  .slot_bytes = 1,
                  .layout_id = 0,
                  .pass_waves = static_cast<std::uint64_t>(shape.moe_layers())}) {
        table_.configure(slots, *policy_);
    }

    /// One layer of a step, in waves as the layer loop cuts them.
    void visit(std::int32_t layer, std::vector<std::int32_t> experts, demand_replay_counts& counts) {
        std::sort(experts.begin(), experts.end());
        experts.erase(std::unique(experts.begin(), experts.end()), experts.end());
        std::stable_partition(experts.begin(), experts.end(), [&](std::int32_t expert) {
            return table_.holds({layer, expert});
        });
        std::vector<residency_table::pin> pins;
        for (std::size_t first = 0; first < experts.size(); first += static_cast<std::size_t>(slots_)) {
            const auto count = std::min(experts.size() - first, static_cast<std::size_t>(slots_));
            pins.clear();
            table_.pin_wave(layer, std::span(experts).subspan(first, count), pins);
            for (const auto& pin : pins) {
                const bool missing = pin.state == slot_state::empty;
                ++(missing ? counts.demand_loads : counts.hits);
                if (missing)
                    table_.complete(pin.slot);
            }
            for (const auto& pin : pins)
                table_.unpin(pin.slot);
        }
    }

private:
    std::unique_ptr<eviction_policy> policy_;
    slot_index slots_;
    residency_table table_;
};

} // namespace

result<demand_replay_counts> replay_demand(const route_trace& trace, const model_shape& shape, std::int32_t rows,
                                           std::int32_t slots, bool bypass, std::int32_t warm_up, std::int32_t steps) {
    if (slots < shape.moe.top_k)
        return fail(errc::invalid_argument,
                    std::to_string(slots) + " slots for a top " + std::to_string(shape.moe.top_k));
    auto routes = forced_routes::create(trace, shape, rows, nullptr);
    if (!routes)
        return tl::unexpected(routes.error());
    replayed_store store(shape, slots, bypass);
    demand_replay_counts counts;
    std::vector<std::int32_t> ids(static_cast<std::size_t>(rows) * static_cast<std::size_t>(shape.moe.top_k));
    std::vector<float> weights(ids.size());
    for (std::int32_t step = 0; step < warm_up + steps; ++step) {
        if (step == warm_up)
            counts = {};
        for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
            if (!shape.layer_is_moe[static_cast<std::size_t>(layer)])
                continue;
            routes->choose(layer, ids, weights);
            store.visit(layer, ids, counts);
        }
        routes->advance();
    }
    return counts;
}

} // namespace moira
