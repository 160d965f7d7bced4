#include "core/execute/memory_plan.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Rounded up: sums of shown numbers are never below the sum itself.
std::string mebibytes(std::uint64_t bytes) {
    return std::to_string(bytes / (1ULL << 20) + (bytes % (1ULL << 20) != 0)) + " MiB";
}

std::string arithmetic(const memory_needs& needs) {
    std::string sum = mebibytes(needs.dense) + " of dense weights, " + mebibytes(needs.kv_cache) + " of KV cache, " +
                      mebibytes(needs.step) + " for a step, ";
    if (!needs.on_device)
        sum += mebibytes(needs.reading) + " for reading ";
    return sum + "and " + mebibytes(needs.margin) + (needs.on_device ? " for the driver" : " for the process");
}

} // namespace

std::uint64_t memory_needs::beside_experts() const noexcept {
    return dense + kv_cache + step + reading + margin;
}

memory_needs device_part(const memory_needs& all, std::uint64_t bytes_total) noexcept {
    memory_needs part = all;
    part.loading = part.reading = 0;
    part.step -= part.long_step;
    part.long_step = 0;
    part.margin = bytes_total / device_margin_divisor;
    part.on_device = true;
    return part;
}

memory_needs host_part(const memory_needs& all) noexcept {
    memory_needs part;
    part.loading = all.loading;
    part.reading = all.reading;
    part.step = part.long_step = all.long_step;
    return part;
}

result<std::uint64_t> plan_expert_budget(const memory_needs& needs, std::uint64_t wanted_bytes, bool automatic,
                                         std::uint64_t available_bytes) {
    if (available_bytes == 0)
        return wanted_bytes;
    const auto beside = needs.beside_experts();
    const auto left = available_bytes - std::min(available_bytes, beside);
    const std::string memory = needs.on_device ? " of the device's memory" : " of memory";
    const std::string setting = needs.on_device ? "experts.vram_budget" : "experts.ram_budget";
    if (needs.dense + needs.loading + needs.margin > available_bytes || left == 0)
        return fail(errc::out_of_memory, mebibytes(available_bytes) + memory +
                                             " are available, but this model needs " + arithmetic(needs) +
                                             ", and " + mebibytes(needs.loading) +
                                             " more while it is loaded, before any expert: free memory, raise the "
                                             "limit, or lower context.kv_budget, context.max_tokens or "
                                             "batch.max_step_tokens");
    if (automatic)
        return std::min(wanted_bytes, left);
    if (wanted_bytes > left)
        return fail(errc::out_of_memory, setting + " asks for " + mebibytes(wanted_bytes) + " beside " +
                                             arithmetic(needs) + ", together " + mebibytes(beside + wanted_bytes) +
                                             ", but only " + mebibytes(available_bytes) +
                                             memory + " are available: set " + setting + " to auto or to at most " +
                                             std::to_string(left >> 20) + "MiB, or lower context.kv_budget");
    return wanted_bytes;
}

std::int32_t long_step_rows(const model_shape& shape, std::int64_t slots) {
    const std::int64_t experts = shape.moe.experts, later = std::max<std::int64_t>(experts - slots, 0);
    const std::int64_t row_bytes = std::int64_t{shape.hidden} * static_cast<std::int64_t>(sizeof(float));
    // All waves but the last: their share of a row's top_k outputs, if experts are used evenly.
    const std::int64_t kept_bytes = row_bytes + row_bytes * shape.moe.top_k * later / experts;
    return static_cast<std::int32_t>(
        std::min<std::int64_t>(long_step_rows_max, static_cast<std::int64_t>(long_step_bytes) / kept_bytes));
}

const tensor_location* embedding_worth_leaving(const checkpoint& model, const model_weight_names& names,
                                               const execution_limits& limits) {
    constexpr std::int64_t share = 8;
    const auto* table = model.find(names.embedding);
    const bool worth = table && table->shape.size() == 2 && table->shape[0] / share >= limits.rows_max;
    return worth ? table : nullptr;
}

memory_needs needs_beside_experts(const checkpoint& model, const model_weight_names& names,
                                  const execution_limits& limits, const step_arena::extras& more,
                                  std::uint64_t reading_bytes, const tensor_location* left, bool experts_move) {
    memory_needs needs;
    const auto dense = summarize(model).bytes_dense;
    needs.dense = dense - std::min(dense, left ? left->bytes : 0);
    for (const auto& name : {names.embedding, names.head})
        if (const auto* tensor = model.find(name); tensor && tensor != left)
            needs.loading = std::max(needs.loading, tensor->bytes);
    const auto& shape = model.shape();
    needs.kv_cache = static_cast<std::uint64_t>(limits.pages) * static_cast<std::uint64_t>(limits.page_tokens) *
                     static_cast<std::uint64_t>(shape.kv_width()) * sizeof(float) *
                     static_cast<std::uint64_t>(shape.layers + (more.with_mtp ? 1 : 0));
    auto with_row = more;
    if (left)
        with_row.embedding_row_bytes = left->bytes / static_cast<std::uint64_t>(left->shape[0]);
    needs.long_step = experts_move ? long_step_bytes : 0;
    needs.step = step_arena::bytes_needed(shape, limits, with_row) + needs.long_step;
    needs.reading = reading_bytes;
    return needs;
}

} // namespace moira
