#include "core/execute/mtp_drafting.hpp"

#include "core/sample/sampler.hpp"
#include "core/speculate/acceptance.hpp"

#include <utility>

namespace moira {

namespace {

void add_row(step_plan& rows, token_id next, std::int32_t position, std::int32_t slot, std::int32_t table_offset) {
    rows.tokens.push_back(next);
    rows.positions.push_back(position);
    rows.slots.push_back(slot);
    rows.attention_rows.push_back({position, position + 1, table_offset, -1});
}

/// How many of the sequence's drafted rows were right.
std::size_t accepted_of(const step_plan& plan, const draft_request& wanted, std::span<const sampled_token> samples) {
    const auto first = static_cast<std::size_t>(wanted.sample_first);
    const auto drafted = static_cast<std::size_t>(wanted.samples - 1);
    const auto draft =
        std::span(plan.tokens).subspan(static_cast<std::size_t>(wanted.row_first + wanted.rows) - drafted, drafted);
    std::vector<token_id> sampled;
    for (const auto& each : samples.subspan(first, drafted + 1))
        sampled.push_back(each.token);
    return count_accepted(draft, sampled);
}

} // namespace

mtp_pass first_mtp_pass(const step_plan& plan, std::span<const sampled_token> samples,
                        std::vector<drafting_sequence>& drafting) {
    mtp_pass pass;
    pass.rows.page_table = plan.page_table;
    for (const draft_request& wanted : plan.draft_requests) {
        auto rows = wanted.rows;
        auto next = wanted.next;
        std::size_t newest = 0;
        if (wanted.samples > 0) {
            const auto accepted = accepted_of(plan, wanted, samples);
            rows -= wanted.samples - 1 - static_cast<std::int32_t>(accepted);
            newest = static_cast<std::size_t>(wanted.sample_first) + accepted;
            next = samples[newest].token;
        }
        pass.kept.push_back({wanted.row_first, rows});
        for (auto row = wanted.row_first; row < wanted.row_first + rows; ++row) {
            const auto at = static_cast<std::size_t>(row);
            const bool last = row + 1 == wanted.row_first + rows;
            add_row(pass.rows, last ? next : plan.tokens[at + 1], plan.positions[at], plan.slots[at],
                    plan.attention_rows[at].page_table_offset);
        }
        if (wanted.samples > 0 && wanted.tokens_max > 0) {
            pass.wanted.push_back(pass.rows.rows() - 1);
            drafting.push_back({&wanted, &plan.samples[newest], {wanted.request, {}}});
        }
    }
    return pass;
}

mtp_pass next_mtp_pass(const step_plan& plan, const execution_limits& limits, std::vector<drafting_sequence>& drafting,
                       std::vector<std::size_t>& stayed) {
    mtp_pass pass;
    pass.rows.page_table = plan.page_table;
    stayed.clear();
    std::vector<drafting_sequence> left;
    for (std::size_t i = 0; i < drafting.size(); ++i) {
        const auto& wanted = *drafting[i].wanted;
        const auto drafted = static_cast<std::int32_t>(drafting[i].offer.tokens.size());
        // The newest true token stands at last->position; the module's row for a token stands one before it.
        const auto position = static_cast<std::int32_t>(drafting[i].last->position) - 1 + drafted;
        const auto page = position / limits.page_tokens;
        if (drafted >= wanted.tokens_max || page >= wanted.pages || position >= limits.context_max)
            continue;
        const auto first_page = static_cast<std::size_t>(wanted.page_table_offset);
        add_row(pass.rows, drafting[i].offer.tokens.back(), position,
                plan.page_table[first_page + static_cast<std::size_t>(page)] * limits.page_tokens +
                    position % limits.page_tokens,
                wanted.page_table_offset);
        pass.wanted.push_back(pass.rows.rows() - 1);
        stayed.push_back(i);
        left.push_back(drafting[i]);
    }
    drafting = std::move(left);
    return pass;
}

void draft_token(drafting_sequence& sequence, std::span<const float> logits) {
    auto sampling = sequence.last->sampling;
    sampling.repetition_penalty = 1; // its history is not worth keeping for a guess
    const auto position = sequence.last->position + 1 + static_cast<std::int64_t>(sequence.offer.tokens.size());
    sequence.offer.tokens.push_back(sample_token(logits, sampling, position, {}));
}

} // namespace moira
