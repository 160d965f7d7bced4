#include "tools/moira/sequence_places.hpp"

namespace moira {

void sequence_places::add_rows(step_plan& plan, std::int32_t sequence, std::int32_t first,
                               std::span<const token_id> tokens, bool sample) const {
    const auto table = static_cast<std::int32_t>(plan.page_table.size());
    for (std::int32_t page = 0; page < pages_; ++page)
        plan.page_table.push_back(sequence * pages_ + page);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const auto position = first + static_cast<std::int32_t>(i);
        plan.tokens.push_back(tokens[i]);
        plan.positions.push_back(position);
        plan.slots.push_back(sequence * pages_ * limits_.page_tokens + position);
        plan.attention_rows.push_back({position, position + 1, table, -1});
    }
    ++plan.sequences;
    if (!sample)
        return;
    sample_request wanted;
    wanted.row = plan.rows() - 1;
    wanted.position = first + static_cast<std::int64_t>(tokens.size());
    plan.samples.push_back(wanted);
}

} // namespace moira
