#pragma once

#include "core/base/error.hpp"
#include "core/execute/attention_block.hpp"
#include "core/execute/context_probe.hpp"
#include "core/execute/route_heads.hpp"
#include "core/experts/expert_store.hpp"
#include "core/route/route_board.hpp"
#include "core/route/trace_predictor.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace moira {

/// Rows of a step up to which routers are evaluated early. More rows together choose nearly every expert of a layer, so
/// a prediction would say nothing.
inline constexpr std::int32_t route_rows_max = 64;

/// Steps between two in which every source of predictions is measured, the control among them, and not only the one
/// that hints are made of.
inline constexpr std::uint64_t route_audit_steps = 16;

/// Experts predicted per row of a model: twice as many as it chooses, as far as its router could choose so many.
std::int32_t probe_ranks(const model_shape& shape) noexcept;

/// What a probe is made for.
struct route_probe_options {
    bool audit_always = false;              ///< measure every source in every step
    std::shared_ptr<history_model> history; ///< null: none
    const linear_heads* heads = nullptr;    ///< null: none; read while the probe is made
    std::int32_t hinted_ranks_max =
        static_cast<std::int32_t>(route_ids_max); ///< of a prediction: what is worth loading
};

/// Predicts experts before their layer's turn and compares what was predicted with what is chosen then. Evaluates
/// routers early, trained heads, and what routing so far tells. Only reads the residual stream and writes buffers of
/// its own, or ones that the layer overwrites before it reads them: results never depend on it. One thread: that of the
/// step.
class route_probe {
public:
    /// `board` gets the observations. Borrows `selector`. Errors: out_of_memory, device_error, op_missing, unsupported
    /// (more experts per token than an observation holds).
    static result<std::unique_ptr<route_probe>> create(const model_shape& shape, const execution_limits& limits,
                                                       const op_selector& selector, device_queue& queue,
                                                       std::shared_ptr<route_board> board,
                                                       const route_probe_options& options);

    /// Of the ops that only predictions launch; the arena's workspace must be as large.
    std::uint64_t workspace_bytes() const noexcept { return ops_.workspace_bytes(); }

    /// `hint_visits`: how many visits ahead somebody can use hints in this step. Borrows `plan` until its end.
    void begin_step(const step_plan& plan, std::size_t hint_visits);

    /// Tells the store what the first layers will probably want, where routing so far says it. Before the first layer.
    void give_first_hints(expert_store& store);

    /// The residual stream is the layer's input.
    result<void> before_attention(const step_context& step, const model_layer& layer);

    /// The residual stream is what the layer's own router sees.
    result<void> after_attention(const step_context& step, const model_layer& layer);

    /// The layer has chosen: `ids` [rows, top_k], of which `ran` [rows, top_k] names those that are computed: leading
    /// ranks of each row, the others are negative. The queue is idle.
    void routed(const model_layer& layer, std::span<const std::int32_t> ids, std::span<const std::int32_t> ran);

    /// A step too large to be predicted is computed in blocks of rows: the layer has chosen `ids` [rows, top_k] for
    /// one.
    void prompt_routed(const model_layer& layer, const step_plan& rows, std::span<const std::int32_t> ids) {
        context_.prompt_routed(layers_.ordinal(layer.index), rows, ids);
    }

    /// Tells the store what the next layers with experts will probably want, behind the last one those of the next
    /// step. The queue is idle, and this layer's demand loads have been asked for.
    void give_hints(const model_layer& layer, expert_store& store);

    /// Whether something is evaluated between the layers of this step.
    bool predicts() const noexcept { return audit_ || hint_visits_ > 0; }

    /// Whether give_hints would have something to say behind this layer.
    bool predicts_after(const model_layer& layer) const noexcept;

private:
    /// What one source says of one layer, on its way from the device or made on the host.
    struct prediction {
        device_buffer ids;              ///< i32 [route_rows_max, ranks]; empty for sources on the host
        std::vector<std::int32_t> host; ///< the same
        std::int32_t ordinal = -1;      ///< of the layer that is predicted, among those that route; -1: nothing
    };

    /// A row of the step behind which its sequence may go on, and how likely among its other rows.
    struct last_row {
        std::size_t row = 0;
        float weight = 1;
    };

    /// A layer ahead and two, and the one whose turn it is.
    static constexpr std::size_t layers_open = 3;

    /// A linear map of a normalised state, and how experts are chosen by it.
    struct scoring {
        const norm* normalize = nullptr;
        const linear* score = nullptr;
        const prepared_op* choose = nullptr;
        const float* bias = nullptr; ///< device memory, [experts]; null: none
    };

    route_probe(const model_shape& shape, const execution_limits& limits, const op_selector& selector,
                std::shared_ptr<route_board> board, const route_probe_options& options);
    result<void> create_buffers(const op_provider& memory);
    result<void> evaluate(const step_context& step, const scoring& how, std::int32_t layer, route_source source);
    result<void> evaluate_router(const step_context& step, std::int32_t layer, route_source source);
    result<void> evaluate_head(const step_context& step, const model_layer& from, std::int32_t ahead);
    result<void> evaluate_ahead(const step_context& step, const model_layer& from, std::int32_t ahead);
    void push_observations(std::int32_t layer, std::span<const std::int32_t> ids, std::span<const std::int32_t> ran);
    void predict_by_context(std::int32_t passed);
    void find_last_rows(const step_plan& plan);
    void copy_prediction(const prediction& predicted, std::size_t row, route_source source,
                         route_observation& seen) const;
    std::optional<route_source> source_for_hints(std::int32_t ordinal) const noexcept;
    void hint_ahead(std::int32_t passed, expert_store& store);
    void add_row(route_source source, std::int32_t ordinal, std::span<const std::int32_t> ids, float weight);
    void add_next_step(std::int32_t ordinal);
    bool has_head(std::int32_t from, std::int32_t ahead) const noexcept;
    bool hinted(route_source source) const noexcept;
    bool wanted(route_source source) const noexcept { return audit_ || hinted(source); }
    std::size_t place(std::int32_t ordinal) const noexcept { return static_cast<std::size_t>(ordinal) % layers_open; }
    prediction& at(route_source source, std::int32_t ordinal) noexcept {
        return predictions_[static_cast<std::size_t>(source)][place(ordinal)];
    }
    bool predicts(route_source source, std::int32_t ordinal) const noexcept {
        return ordinal >= 0 && predictions_[static_cast<std::size_t>(source)][place(ordinal)].ordinal == ordinal;
    }

    const model_shape& shape_;
    routing_layers layers_;
    std::vector<std::int32_t> of_ordinal_; ///< layers that route
    std::int32_t page_tokens_;
    std::size_t top_k_, ranks_, rows_max_;
    std::shared_ptr<route_board> board_;
    bool audit_always_;
    std::size_t hinted_ranks_;
    op_set ops_;
    const prepared_op* choose_ = nullptr; ///< as the model's routers do, but of more ranks
    device_buffer weights_;               ///< f32 [route_rows_max, ranks]: written and never read
    std::unique_ptr<route_heads> heads_;  ///< null: none
    context_probe context_;

    std::uint64_t step_ = 0;
    std::size_t rows_ = 0;
    std::size_t hint_visits_ = 0;     ///< of this step
    bool audit_ = false;              ///< the same
    std::vector<last_row> last_rows_; ///< the same; none where the next step's layers are not the next to be visited
    std::array<std::array<prediction, layers_open>, route_sources> predictions_;

    // for hints, so that they allocate nothing
    prediction_union of_rows_;
    std::vector<predicted_expert> of_row_; ///< empty between calls
    std::vector<expert_hint> hints_;       ///< the same
    std::vector<std::int32_t> next_ids_;   ///< [ranks]
};

} // namespace moira
