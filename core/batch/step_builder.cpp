#include "core/batch/step_builder.hpp"

namespace moira {

namespace {

void add_rows(step_plan& plan, const step_chunk& chunk, std::int32_t page_tokens) {
    const sequence& owner = *chunk.owner;
    const auto table_offset = static_cast<std::int32_t>(plan.page_table.size());
    for (const page_id page : owner.pages.pages)
        plan.page_table.push_back(page.value);
    const auto drafted = static_cast<std::int32_t>(chunk.draft.size());
    for (std::int32_t row = 0; row < chunk.rows + drafted; ++row) {
        const auto position = static_cast<std::int32_t>(owner.computed() + row);
        const std::int32_t page = owner.pages.pages[static_cast<std::size_t>(position / page_tokens)].value;
        plan.tokens.push_back(row < chunk.rows ? owner.tokens()[static_cast<std::size_t>(position)]
                                               : chunk.draft[static_cast<std::size_t>(row - chunk.rows)]);
        plan.requests.push_back(owner.id());
        plan.positions.push_back(position);
        plan.slots.push_back(page * page_tokens + position % page_tokens);
        plan.attention_rows.push_back({position, position + 1, table_offset, -1});
    }
}

/// One sample behind the sequence's last token, and one behind each drafted token.
void add_samples(step_plan& plan, const step_chunk& chunk) {
    const sequence& owner = *chunk.owner;
    const auto drafted = static_cast<std::int32_t>(chunk.draft.size());
    for (std::int32_t before = 0; before <= drafted; ++before) {
        sample_request& wanted = plan.samples.emplace_back();
        wanted.request = owner.id();
        wanted.row = plan.rows() - 1 - drafted + before;
        wanted.position = owner.token_count() + before;
        wanted.sampling = owner.request().sampling;
        wanted.follows_draft = before > 0;
        wanted.hash = owner.hash();
        if (wanted.sampling.repetition_penalty != 1.0) {
            wanted.history.assign(owner.tokens().begin(), owner.tokens().end());
            wanted.history.insert(wanted.history.end(), chunk.draft.begin(), chunk.draft.begin() + before);
        }
    }
}

void add_draft_request(step_plan& plan, const step_chunk& chunk, std::int32_t row_first, std::int32_t sample_first) {
    const sequence& owner = *chunk.owner;
    draft_request& wanted = plan.draft_requests.emplace_back();
    wanted.request = owner.id();
    wanted.row_first = row_first;
    wanted.rows = plan.rows() - row_first;
    wanted.sample_first = sample_first;
    wanted.samples = static_cast<std::int32_t>(plan.samples.size()) - sample_first;
    if (!chunk.samples())
        wanted.next = owner.tokens()[static_cast<std::size_t>(owner.computed() + chunk.rows)];
    wanted.pages = static_cast<std::int32_t>(owner.pages.pages.size());
    wanted.page_table_offset = static_cast<std::int32_t>(plan.page_table.size()) - wanted.pages;
    wanted.tokens_max = *chunk.offer_max;
}

} // namespace

step_plan build_step(std::uint64_t number, std::span<const step_chunk> chunks, std::int32_t page_tokens) {
    step_plan plan;
    plan.number = number;
    plan.sequences = static_cast<std::int32_t>(chunks.size());
    for (const step_chunk& chunk : chunks) {
        const auto row_first = plan.rows();
        const auto sample_first = static_cast<std::int32_t>(plan.samples.size());
        add_rows(plan, chunk, page_tokens);
        if (chunk.samples())
            add_samples(plan, chunk);
        if (chunk.offer_max)
            add_draft_request(plan, chunk, row_first, sample_first);
    }
    return plan;
}

} // namespace moira
