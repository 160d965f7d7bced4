#include "core/execute/step_arena.hpp"

#include "core/base/checked.hpp"

#include <algorithm>
#include <numeric>
#include <string>

namespace moira {

namespace {

struct wanted_buffer {
    device_buffer* buffer;
    std::uint64_t rows;
    std::uint64_t bytes_per_row;
};

result<void> create_all(const std::vector<wanted_buffer>& wanted, const op_provider& memory) {
    for (const auto& [buffer, rows, bytes_per_row] : wanted) {
        const auto bytes = checked_mul(rows, bytes_per_row);
        if (!bytes)
            return fail(errc::invalid_config, "batch.max_step_tokens is too large for this model");
        auto made = device_buffer::create(memory, *bytes);
        if (!made)
            return tl::unexpected(made.error());
        *buffer = std::move(*made);
    }
    return {};
}

template <class T>
result<void> upload_array(device_queue& queue, device_buffer& buffer, const std::vector<T>& values) {
    if (values.size() * sizeof(T) > buffer.bytes())
        return fail(errc::internal, "a step plan is larger than the step arena");
    return queue.upload(buffer.as<void>(), values.data(), values.size() * sizeof(T));
}

/// Every buffer of an arena.
std::vector<wanted_buffer> buffers_of(step_arena& made, const model_shape& shape, const execution_limits& limits,
                                      const step_arena::extras& more) {
    const auto rows = static_cast<std::uint64_t>(limits.rows_max);
    const auto logits_rows = static_cast<std::uint64_t>(limits.logits_rows_max);
    const auto floats = [](std::int64_t count) { return static_cast<std::uint64_t>(count) * sizeof(float); };
    const auto top_k = static_cast<std::uint64_t>(shape.moe.top_k);
    return {
        {&made.tokens, rows, sizeof(std::int32_t)},
        {&made.positions, rows, sizeof(std::int32_t)},
        {&made.slots, rows, sizeof(std::int32_t)},
        {&made.attention_rows, rows, sizeof(moira_attention_row)},
        // Sequences share pages only by prefix reuse, so a step can name a page once per sequence.
        {&made.page_table, static_cast<std::uint64_t>(limits.pages) * std::max<std::uint64_t>(1, logits_rows),
         sizeof(std::int32_t)},
        {&made.embedding_rows, rows, more.embedding_row_bytes},
        {&made.row_numbers, more.embedding_row_bytes > 0 ? rows : 0, sizeof(std::int32_t)},
        {&made.x, rows, floats(shape.hidden)},
        {&made.normed, rows, floats(shape.hidden)},
        {&made.query_low, rows, floats(shape.mla ? shape.mla->query_rank : 0)},
        {&made.query, rows, floats(shape.query_width())},
        {&made.kv, rows, floats(shape.kv_width())},
        {&made.attended, rows, floats(shape.attention_width())},
        {&made.router_logits, rows, floats(shape.moe.experts)},
        {&made.expert_ids, rows * top_k, sizeof(std::int32_t)},
        {&made.expert_weights, rows * top_k, sizeof(float)},
        {&made.expert_out, rows * top_k, floats(shape.hidden)},
        {&made.block_out, rows, floats(shape.hidden)},
        {&made.head_in, logits_rows, floats(shape.hidden)},
        {&made.logits, logits_rows, floats(shape.vocabulary)},
        {&made.mtp_hidden, more.with_mtp ? rows : 0, floats(shape.hidden)},
        {&made.mtp_input, more.with_mtp ? rows : 0, floats(2 * std::int64_t{shape.hidden})},
        {&made.workspace, 1, more.workspace_bytes},
        {&made.every_row_pairs, rows, sizeof(moira_expert_pair)},
        {&made.every_row_group, 1, sizeof(moira_expert_group)},
        {&made.pairs, rows * top_k, sizeof(moira_expert_pair)},
        {&made.groups, static_cast<std::uint64_t>(shape.moe.experts), sizeof(moira_expert_group)},
    };
}

} // namespace

result<void> check_plan(const step_plan& plan) {
    const auto rows = plan.tokens.size();
    const bool one_per_row =
        plan.positions.size() == rows && plan.slots.size() == rows && plan.attention_rows.size() == rows;
    const bool samples_inside =
        std::all_of(plan.samples.begin(), plan.samples.end(), [&](const sample_request& sample) {
            return sample.row >= 0 && static_cast<std::size_t>(sample.row) < rows;
        });
    if (!one_per_row || !samples_inside)
        return fail(errc::internal, "a step plan of " + std::to_string(rows) + " rows contradicts itself");
    return {};
}

std::uint64_t step_arena::bytes_needed(const model_shape& shape, const execution_limits& limits, const extras& more) {
    step_arena unused;
    std::uint64_t sum = 0;
    for (const auto& [buffer, rows, bytes_per_row] : buffers_of(unused, shape, limits, more))
        sum = checked_add(sum, checked_mul(rows, bytes_per_row).value_or(UINT64_MAX)).value_or(UINT64_MAX);
    return sum;
}

result<step_arena> step_arena::create(const model_shape& shape, const execution_limits& limits,
                                      const op_provider& memory, const extras& more) {
    step_arena made;
    if (auto done = create_all(buffers_of(made, shape, limits, more), memory); !done)
        return tl::unexpected(done.error());
    const auto rows = static_cast<std::size_t>(limits.rows_max);
    made.host_expert_ids.resize(rows * static_cast<std::size_t>(shape.moe.top_k));
    made.host_logits.resize(static_cast<std::size_t>(limits.logits_rows_max) *
                            static_cast<std::size_t>(shape.vocabulary));
    made.host_embedding_rows.resize(rows * more.embedding_row_bytes);
    return made;
}

result<void> step_arena::upload(const step_plan& plan, device_queue& queue) {
    if (auto fine = check_plan(plan); !fine)
        return fine;
    rows = plan.rows();
    host_tokens = plan.tokens;
    page_table_entries = static_cast<std::int32_t>(plan.page_table.size());
    std::vector<moira_expert_pair> identity(static_cast<std::size_t>(rows));
    for (std::int32_t row = 0; row < rows; ++row)
        identity[static_cast<std::size_t>(row)] = {row, row};
    std::vector<std::int32_t> numbers(row_numbers.bytes() > 0 ? static_cast<std::size_t>(rows) : 0);
    std::iota(numbers.begin(), numbers.end(), 0);
    const std::vector<moira_expert_group> all{{0, 1, 0, static_cast<std::uint32_t>(rows)}};
    result<void> outcome;
    for (const auto& done :
         {upload_array(queue, tokens, plan.tokens), upload_array(queue, positions, plan.positions),
          upload_array(queue, slots, plan.slots), upload_array(queue, attention_rows, plan.attention_rows),
          upload_array(queue, page_table, plan.page_table), upload_array(queue, row_numbers, numbers),
          upload_array(queue, every_row_pairs, identity), upload_array(queue, every_row_group, all)})
        if (!done && outcome)
            outcome = done;
    // Also after a failure: queued copies read the arrays above.
    auto idle = queue.synchronize();
    return outcome ? idle : outcome;
}

} // namespace moira
