#include "core/execute/context_probe.hpp"

#include <algorithm>
#include <utility>

namespace moira {
namespace {

/// Tokens remembered per row of the largest step: those of the step itself, the one before each, and as many of
/// rejected drafts.
constexpr std::size_t tokens_per_row = 4;

history_model::dimensions dimensions_of(const model_shape& shape) {
    return {shape.moe_layers(), shape.moe.experts, shape.moe.top_k};
}

} // namespace

context_probe::context_probe(const model_shape& shape, std::int32_t rows_max, std::int32_t ranks,
                             std::shared_ptr<history_model> model)
    : layers_(shape.layer_is_moe), top_k_(static_cast<std::size_t>(shape.moe.top_k)),
      ranks_(static_cast<std::size_t>(ranks)),
      memory_(shape.moe_layers(), shape.moe.top_k, tokens_per_row * static_cast<std::size_t>(rows_max)),
      scorer_(dimensions_of(shape), std::move(model)), scores_(static_cast<std::size_t>(shape.moe.experts)),
      best_(ranks_), chosen_(top_k_) {
    slots_.reserve(static_cast<std::size_t>(rows_max));
    previous_slots_.reserve(static_cast<std::size_t>(rows_max));
}

void context_probe::begin_step(const step_plan& plan, std::int32_t page_tokens) {
    step_ = plan.number;
    slots_.assign(plan.slots.begin(), plan.slots.end());
    previous_slots_.clear();
    for (const auto& row : plan.attention_rows) {
        const auto before = row.position - 1;
        const auto page =
            static_cast<std::size_t>(row.page_table_offset) + static_cast<std::size_t>(before / page_tokens);
        previous_slots_.push_back(before < 0 || page >= plan.page_table.size()
                                      ? -1
                                      : plan.page_table[page] * page_tokens + before % page_tokens);
    }
    slots_.resize(previous_slots_.size(), -1);
}

void context_probe::routed(std::int32_t layer, std::span<const std::int32_t> ids) {
    const auto ordinal = layers_.ordinal(layer);
    if (ordinal < 0)
        return;
    for (std::size_t row = 0; row < slots_.size() && (row + 1) * top_k_ <= ids.size(); ++row) {
        const auto of_row = ids.subspan(row * top_k_, top_k_);
        std::transform(of_row.begin(), of_row.end(), chosen_.begin(),
                       [](std::int32_t id) { return static_cast<std::uint16_t>(id); });
        scorer_.observe(ordinal, chosen_);
        const auto token = memory_.token(slots_[row], step_);
        std::copy(chosen_.begin(), chosen_.end(), token.begin() + ordinal * static_cast<std::ptrdiff_t>(top_k_));
    }
}

bool context_probe::predict(route_source source, std::int32_t layer, std::span<std::int32_t> ids) {
    const auto ordinal = layers_.ordinal(layer);
    if (ordinal < 0)
        return false;
    for (std::size_t row = 0; row < slots_.size() && (row + 1) * ranks_ <= ids.size(); ++row) {
        const auto of_row = ids.subspan(row * ranks_, ranks_);
        const auto token = memory_.token(slots_[row], step_);
        if (!scorer_.score(source, ordinal, {token, memory_.find(previous_slots_[row])}, scores_)) {
            std::fill(of_row.begin(), of_row.end(), -1);
            continue;
        }
        best_experts(scores_, best_);
        std::copy(best_.begin(), best_.end(), of_row.begin());
    }
    return true;
}

} // namespace moira
