#include "tests/execute/resident_steps.hpp"

#include <doctest/doctest.h>
#include <numeric>

namespace moira {

namespace {

/// Whoever watches launches sees them one by one: such steps go layer by layer.
struct idle_watch final : launch_watch {
    void launched(const bound_launch&, double) override {}
};

} // namespace

void load_all(engine& model) {
    const auto& shape = model.shape();
    std::vector<std::int32_t> experts(static_cast<std::size_t>(shape.moe.experts));
    std::iota(experts.begin(), experts.end(), 0);
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        if (!shape.layer_is_moe[static_cast<std::size_t>(layer)])
            continue;
        auto lease = model.experts().acquire(layer, experts);
        REQUIRE_MESSAGE(lease, lease.error().message);
        for (bool more = true; more;) {
            const auto some = lease->wait_some();
            REQUIRE_MESSAGE(some, some.error().message);
            more = !some->empty();
        }
    }
    const auto seen = model.experts().statistics();
    REQUIRE(seen.resident == seen.slots_all);
}

step_plan batch(const engine& model, std::int32_t sequences, std::int32_t first, std::int32_t count, bool all) {
    const auto& limits = model.limits();
    const auto pages = (first + count + limits.page_tokens - 1) / limits.page_tokens;
    step_plan plan;
    plan.number = static_cast<std::uint64_t>(first) + 1;
    plan.sequences = sequences;
    for (std::int32_t sequence = 0; sequence < sequences; ++sequence) {
        const auto ids = some_tokens(static_cast<std::size_t>(first + count + sequence));
        const auto table = static_cast<std::int32_t>(plan.page_table.size());
        for (std::int32_t page = 0; page < pages; ++page)
            plan.page_table.push_back(page * sequences + sequence);
        for (std::int32_t position = first; position < first + count; ++position) {
            const auto row = plan.rows();
            plan.tokens.push_back(ids[static_cast<std::size_t>(position + sequence)]);
            plan.positions.push_back(position);
            plan.slots.push_back(plan.page_table[static_cast<std::size_t>(table + position / limits.page_tokens)] *
                                     limits.page_tokens +
                                 position % limits.page_tokens);
            plan.attention_rows.push_back({position, position + 1, table, -1});
            if (!all && position + 1 < first + count)
                continue;
            sample_request sample;
            sample.row = row;
            sample.position = position + 1;
            plan.samples.push_back(sample);
        }
    }
    return plan;
}

std::vector<std::string> outcome_of(engine& model, const step_plan& plan) {
    const auto outcome = model.run_step(plan);
    REQUIRE_MESSAGE(!outcome.failure, outcome.failure->message);
    REQUIRE(outcome.samples.size() == plan.samples.size());
    std::vector<std::string> shown;
    for (const auto& sample : outcome.samples)
        shown.push_back(std::to_string(sample.token) + " " + sample.hash.hex());
    return shown;
}

std::vector<std::string> layer_by_layer(engine& model, const step_plan& plan) {
    idle_watch watch;
    const auto before = model.resident_steps().all();
    model.watch_launches(&watch);
    auto shown = outcome_of(model, plan);
    model.watch_launches(nullptr);
    CHECK(model.resident_steps().all() == before);
    return shown;
}

std::vector<std::string> resident(engine& model, const step_plan& plan) {
    const auto before = model.resident_steps().all();
    auto shown = outcome_of(model, plan);
    CHECK(model.resident_steps().all() == before + 1);
    return shown;
}

engine_options small_pages() {
    engine_options options;
    options.page_tokens = 4;
    return options;
}

std::vector<step_plan> text_of(const engine& model, std::int32_t sequences) {
    std::vector<step_plan> plans{batch(model, sequences, 0, 6, true)};
    for (std::int32_t position = 6; position < 11; ++position)
        plans.push_back(batch(model, sequences, position, 1, false));
    return plans;
}

} // namespace moira
