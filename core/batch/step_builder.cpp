#include "core/batch/step_builder.hpp"

namespace moira {

namespace {

void add_rows(step_plan& plan, const step_chunk& chunk, std::int32_t page_tokens) {
    const sequence& owner = *chunk.owner;
    const auto table_offset = static_cast<std::int32_t>(plan.page_table.size());
    for (const page_id page : owner.pages.pages)
        plan.page_table.push_back(page.value);
    for (std::int32_t row = 0; row < chunk.rows; ++row) {
        const auto position = static_cast<std::int32_t>(owner.computed() + row);
        const std::int32_t page = owner.pages.pages[static_cast<std::size_t>(position / page_tokens)].value;
        plan.tokens.push_back(owner.tokens()[static_cast<std::size_t>(position)]);
        plan.positions.push_back(position);
        plan.slots.push_back(page * page_tokens + position % page_tokens);
        plan.attention_rows.push_back({position, position + 1, table_offset, -1});
    }
}

void add_sample(step_plan& plan, const sequence& owner) {
    sample_request& wanted = plan.samples.emplace_back();
    wanted.request = owner.id();
    wanted.row = plan.rows() - 1;
    wanted.position = owner.token_count();
    wanted.sampling = owner.request().sampling;
    wanted.hash = owner.hash();
    if (wanted.sampling.repetition_penalty != 1.0)
        wanted.history.assign(owner.tokens().begin(), owner.tokens().end());
}

} // namespace

step_plan build_step(std::uint64_t number, std::span<const step_chunk> chunks, std::int32_t page_tokens) {
    step_plan plan;
    plan.number = number;
    plan.sequences = static_cast<std::int32_t>(chunks.size());
    for (const step_chunk& chunk : chunks) {
        add_rows(plan, chunk, page_tokens);
        if (chunk.samples())
            add_sample(plan, *chunk.owner);
    }
    return plan;
}

} // namespace moira
