#pragma once

#include "core/base/error.hpp"
#include "core/batch/step_plan.hpp"
#include "core/execute/device.hpp"
#include "core/execute/device_expert_tables.hpp"
#include "core/execute/expert_assignment.hpp"
#include "core/execute/op_descriptions.hpp"
#include "core/experts/expert_visit.hpp"
#include "core/model/model_shape.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace moira {

/// All memory that one step writes, sized once for the stated maxima. One step at a time uses it. `rows` is the number
/// of rows of the step.
struct step_arena {
    /// What depends on more than shape and limits.
    struct extras {
        std::uint64_t workspace_bytes = 0;
        bool with_mtp = false;                  ///< also what a multi-token-prediction module needs
        std::uint64_t embedding_row_bytes = 0;  ///< where the table stays on disk
    };
    static result<step_arena> create(const model_shape& shape, const execution_limits& limits, const op_provider& memory,
                                     const extras& more);

    /// Device memory that create() takes, saturating.
    static std::uint64_t bytes_needed(const model_shape& shape, const execution_limits& limits, const extras& more);

    /// Copies a plan's arrays to the device. Errors: internal (larger than the arena, or arrays that contradict each
    /// other), device_error.
    result<void> upload(const step_plan& plan, device_queue& queue);

    std::int32_t rows = 0;

    // from the plan, on the device
    device_buffer tokens, positions, slots;  ///< i32 [rows]
    device_buffer attention_rows;            ///< moira_attention_row [rows]
    device_buffer page_table;                ///< i32 [pages]
    std::int32_t page_table_entries = 0;

    // of the step's tokens, where the embedding table stays on disk
    device_buffer embedding_rows;  ///< [rows, embedding_row_bytes], as in the checkpoint
    device_buffer row_numbers;     ///< i32 [rows]: 0, 1, 2, ...
    std::vector<token_id> host_tokens;          ///< of the step
    std::vector<std::byte> host_embedding_rows; ///< the same as embedding_rows

    // activations, f32
    device_buffer x;              ///< [rows, hidden]: the residual stream
    device_buffer normed;         ///< [rows, hidden]
    device_buffer query_low;      ///< [rows, query_rank]
    device_buffer query;          ///< [rows, query_width]
    device_buffer kv;             ///< [rows, kv_width]: as a token slot of the KV cache
    device_buffer attended;       ///< [rows, attention_width]
    device_buffer router_logits;  ///< [rows, experts]
    device_buffer expert_ids;     ///< i32 [rows, top_k]
    device_buffer expert_weights; ///< [rows, top_k]
    device_buffer expert_out;     ///< [rows * top_k, hidden]
    device_buffer block_out;      ///< [rows, hidden]: shared experts or a dense block
    device_buffer head_in;        ///< [logits_rows_max, hidden]
    device_buffer logits;         ///< [logits_rows_max, vocabulary]
    device_buffer mtp_hidden;     ///< [rows, hidden]: states that the multi-token-prediction module goes on from
    device_buffer mtp_input;      ///< [rows, 2 * hidden]
    device_buffer workspace;      ///< for ops that asked

    // tables of the expert op
    device_buffer every_row_pairs, every_row_group;  ///< all rows to one expert: dense and shared blocks
    device_buffer pairs;          ///< moira_expert_pair [rows * top_k]
    device_buffer groups;         ///< moira_expert_group [experts]
    device_expert_tables tables;  ///< none where kernels read host memory

    // host mirrors: copies to the device are queued and read them later
    std::vector<moira_expert_group> host_groups;
    std::vector<std::int32_t> host_expert_ids;
    std::vector<float> host_logits;  ///< [logits_rows_max, vocabulary]
    expert_assignment assignment;    ///< of the layer at hand
    std::vector<std::int32_t> drafted_experts, prompt_experts;  ///< of the layer at hand: that no other rows want
    /// Of the layer whose experts a device's queue may still read: pins end when the queue has been waited for.
    std::unique_ptr<std::optional<expert_visit>> visit = std::make_unique<std::optional<expert_visit>>();
    std::vector<std::int32_t> failed_rows;  ///< of a step that failed: those that wanted an expert that could not be read
};

/// Kernels index host and device memory by a plan's arrays. Errors: internal (they contradict each other).
result<void> check_plan(const step_plan& plan);

}  // namespace moira
