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
    : layers_(static_cast<std::size_t>(shape.moe_layers())), top_k_(static_cast<std::size_t>(shape.moe.top_k)),
      ranks_(static_cast<std::size_t>(ranks)),
      memory_(shape.moe_layers(), shape.moe.top_k, tokens_per_row * static_cast<std::size_t>(rows_max)),
      scorer_(dimensions_of(shape), std::move(model)), scores_(static_cast<std::size_t>(shape.moe.experts)),
      best_(ranks_), chosen_(top_k_) {
    const auto rows = static_cast<std::size_t>(rows_max);
    slots_.reserve(rows);
    previous_slots_.reserve(rows);
    rejected_.resize(rows * layers_ * top_k_);
}

/// What was drafted in the step before and is computed anew was rejected. Before anybody asks the memory for room.
void context_probe::find_drafts(const step_plan& plan) {
    const auto width = layers_ * top_k_;
    has_rejected_.assign(slots_.size(), false);
    for (std::size_t row = 0; row < slots_.size() && row < plan.requests.size(); ++row) {
        const auto same = [&](const draft_place& each) {
            return each.slot == slots_[row] && each.request == plan.requests[row];
        };
        const auto known = memory_.find(slots_[row]);
        if (known.empty() || std::none_of(drafts_.begin(), drafts_.end(), same))
            continue;
        std::copy(known.begin(), known.end(), rejected_.begin() + static_cast<std::ptrdiff_t>(row * width));
        has_rejected_[row] = true;
    }
    drafts_.clear();
    for (const auto& sample : plan.samples)
        if (sample.follows_draft && static_cast<std::size_t>(sample.row) < slots_.size())
            drafts_.push_back({slots_[static_cast<std::size_t>(sample.row)], sample.request});
}

void context_probe::begin_step(const step_plan& plan, std::int32_t page_tokens, bool predicted) {
    plan_ = &plan;
    step_ = plan.number;
    for (const auto ended : plan.ended)
        scorer_.sequences().forget(ended.value);
    wanted_.assign(static_cast<std::size_t>(plan.rows()), false);
    for (const auto& sample : plan.samples)
        wanted_[static_cast<std::size_t>(sample.row)] = true;
    slots_.clear();
    previous_slots_.clear();
    if (predicted) {
        slots_.assign(plan.slots.begin(), plan.slots.end());
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
    find_drafts(plan);
}

void context_probe::prompt_routed(std::int32_t layer, const step_plan& rows, std::span<const std::int32_t> ids) {
    for (std::size_t row = 0; row < rows.requests.size() && (row + 1) * top_k_ <= ids.size(); ++row) {
        const auto of_row = ids.subspan(row * top_k_, top_k_);
        std::transform(of_row.begin(), of_row.end(), chosen_.begin(),
                       [](std::int32_t id) { return static_cast<std::uint16_t>(id); });
        // A preempted sequence computes again what has been counted; drafts come again for another reason.
        const bool once = &rows != plan_ || !wanted_[row];
        scorer_.sequences().observe(rows.requests[row].value, rows.positions[row], once, layer, chosen_);
    }
}

void context_probe::routed(std::int32_t layer, std::span<const std::int32_t> ids) {
    prompt_routed(layer, *plan_, ids);
    for (std::size_t row = 0; row < slots_.size() && (row + 1) * top_k_ <= ids.size(); ++row) {
        const auto of_row = ids.subspan(row * top_k_, top_k_);
        std::transform(of_row.begin(), of_row.end(), chosen_.begin(),
                       [](std::int32_t id) { return static_cast<std::uint16_t>(id); });
        scorer_.observe(layer, chosen_);
        const auto token = memory_.token(slots_[row], step_);
        std::copy(chosen_.begin(), chosen_.end(), token.begin() + layer * static_cast<std::ptrdiff_t>(top_k_));
    }
}

std::span<const std::uint16_t> context_probe::drafted(std::size_t row) const noexcept {
    const auto width = layers_ * top_k_;
    return has_rejected_[row] ? std::span(rejected_).subspan(row * width, width) : std::span<const std::uint16_t>();
}

bool context_probe::score_into(route_source source, std::int32_t layer, const route_context& context,
                               std::span<std::int32_t> ids) {
    if (!scorer_.score(source, layer, context, scores_)) {
        std::fill(ids.begin(), ids.end(), -1);
        return false;
    }
    best_experts(scores_, best_);
    std::copy(best_.begin(), best_.end(), ids.begin());
    return true;
}

bool context_probe::predict(route_source source, std::int32_t layer, std::span<std::int32_t> ids) {
    if (layer < 0 || static_cast<std::size_t>(layer) >= layers_)
        return false;
    bool known = false;
    for (std::size_t row = 0; row < slots_.size() && (row + 1) * ranks_ <= ids.size(); ++row) {
        const auto token = memory_.token(slots_[row], step_);
        const route_context context{token, memory_.find(previous_slots_[row]), drafted(row), sequence_of(row)};
        known |= score_into(source, layer, context, ids.subspan(row * ranks_, ranks_));
    }
    return known;
}

bool context_probe::predict_next(route_source source, std::int32_t layer, std::size_t row,
                                 std::span<std::int32_t> ids) {
    if (row >= slots_.size() || layer < 0 || static_cast<std::size_t>(layer) >= layers_)
        return false;
    route_context context{{}, memory_.find(slots_[row]), {}, sequence_of(row)};
    // If the draft behind it is rejected, the next token stands in that one's place.
    const auto behind = row + 1;
    const bool draft_behind = behind < slots_.size() && sequence_of(behind) == context.sequence &&
                              std::any_of(drafts_.begin(), drafts_.end(),
                                          [&](const draft_place& each) { return each.slot == slots_[behind]; });
    if (draft_behind)
        context.drafted = memory_.find(slots_[behind]);
    return score_into(source, layer, context, ids);
}

} // namespace moira
