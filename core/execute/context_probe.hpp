#pragma once

#include "core/batch/step_plan.hpp"
#include "core/model/model_shape.hpp"
#include "core/route/context_scorer.hpp"
#include "core/route/history_learner.hpp"
#include "core/route/route_memory.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace moira {

/// Predicts from routing alone, on the host: remembers what the rows of the latest steps chose and scores the experts
/// of coming layers by it. Layers are counted over those that route. One thread: that of the step.
class context_probe {
public:
    /// For steps of at most `rows_max` rows, `ranks` predictions each. `model` may be null: no `history`.
    context_probe(const model_shape& shape, std::int32_t rows_max, std::int32_t ranks,
                  std::shared_ptr<history_model> model);

    /// Borrows `plan` until the step has ended. `predicted`: its rows will be; at most rows_max of them then.
    void begin_step(const step_plan& plan, std::int32_t page_tokens, bool predicted);

    /// `layer` has chosen `ids` [rows, top_k] for the rows of the step.
    void routed(std::int32_t layer, std::span<const std::int32_t> ids);

    /// The same for rows of a step that is cut into blocks: for what is known of sequences.
    void prompt_routed(std::int32_t layer, const step_plan& rows, std::span<const std::int32_t> ids);

    /// Predicts `layer` for every row: into `ids` [rows, ranks], the likeliest first; -1 where nothing is known. False:
    /// nothing is known of any row, or there is no such layer.
    bool predict(route_source source, std::int32_t layer, std::span<std::int32_t> ids);

    /// A token of the next step, if the row's sequence goes on: after row `row` of this one, of which nothing is known
    /// to be right but what came before. `ids` [ranks]. False: nothing is known.
    bool predict_next(route_source source, std::int32_t layer, std::size_t row, std::span<std::int32_t> ids);

    bool has_history() const noexcept { return scorer_.model() != nullptr; }

    /// Where the row's token and the one before it lie in the KV cache; -1: there is none.
    std::int32_t slot(std::size_t row) const noexcept { return slots_[row]; }
    std::int32_t previous_slot(std::size_t row) const noexcept { return previous_slots_[row]; }

private:
    /// Where a drafted row's token lies.
    struct draft_place {
        std::int32_t slot = -1;
        request_id request;
    };

    void find_drafts(const step_plan& plan);
    std::uint64_t sequence_of(std::size_t row) const noexcept {
        return row < plan_->requests.size() ? plan_->requests[row].value : no_sequence;
    }
    std::span<const std::uint16_t> drafted(std::size_t row) const noexcept;
    bool score_into(route_source source, std::int32_t layer, const route_context& context, std::span<std::int32_t> ids);

    std::size_t layers_, top_k_, ranks_;
    route_memory memory_;
    context_scorer scorer_;
    const step_plan* plan_ = nullptr;
    std::uint64_t step_ = 0;
    std::vector<std::int32_t> slots_, previous_slots_; ///< [rows that are predicted]
    std::vector<bool> wanted_;                         ///< [rows]: its logits are
    std::vector<draft_place> drafts_;                  ///< of the step, if it is predicted
    std::vector<std::uint16_t> rejected_;              ///< [rows that are predicted, layers, top_k]: drafts' choices
    std::vector<bool> has_rejected_;                   ///< [rows that are predicted]
    std::vector<float> scores_;                        ///< [experts]
    std::vector<std::uint16_t> best_;                  ///< [ranks]
    std::vector<std::uint16_t> chosen_;                ///< [top_k]
};

} // namespace moira
