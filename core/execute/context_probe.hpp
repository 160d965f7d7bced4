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
/// of the next layer by it. One thread: that of the step.
class context_probe {
public:
    /// For steps of at most `rows_max` rows, `ranks` predictions each. `model` may be null: no `history`.
    context_probe(const model_shape& shape, std::int32_t rows_max, std::int32_t ranks,
                  std::shared_ptr<history_model> model);

    /// Precondition: at most rows_max rows.
    void begin_step(const step_plan& plan, std::int32_t page_tokens);

    /// `layer` has chosen `ids` [rows, top_k].
    void routed(std::int32_t layer, std::span<const std::int32_t> ids);

    /// Predicts `layer`, whose turn is next, for every row: into `ids` [rows, ranks], the likeliest first; -1 where
    /// nothing is known. False: the layer does not route.
    bool predict(route_source source, std::int32_t layer, std::span<std::int32_t> ids);

    bool has_history() const noexcept { return scorer_.model() != nullptr; }

    /// Where the row's token and the one before it lie in the KV cache; -1: there is none.
    std::int32_t slot(std::size_t row) const noexcept { return slots_[row]; }
    std::int32_t previous_slot(std::size_t row) const noexcept { return previous_slots_[row]; }

private:
    routing_layers layers_;
    std::size_t top_k_, ranks_;
    route_memory memory_;
    context_scorer scorer_;
    std::uint64_t step_ = 0;
    std::vector<std::int32_t> slots_, previous_slots_; ///< [rows]
    std::vector<float> scores_;                        ///< [experts]
    std::vector<std::uint16_t> best_;                  ///< [ranks]
    std::vector<std::uint16_t> chosen_;                ///< [top_k]
};

} // namespace moira
