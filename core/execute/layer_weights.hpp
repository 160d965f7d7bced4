#pragma once

#include "core/execute/device.hpp"
#include "core/execute/embedding_file.hpp"
#include "core/model/model_shape.hpp"

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace moira {

/// A linear map and the op that reads its packed weight.
struct linear {
    const prepared_op* op = nullptr;
    device_buffer weight;
    device_buffer bias;  ///< empty: none
};

struct norm {
    const prepared_op* op = nullptr;
    device_buffer weight;  ///< f32
};

/// A feed-forward block that every row passes: a dense layer, or the shared experts. The same op as routed experts,
/// with a table of one entry that is always resident.
struct gated_ffn {
    const prepared_op* op = nullptr;
    device_buffer slab;
    device_buffer entry;  ///< one moira_expert_entry of generation 1
};

struct mla_attention {
    std::optional<linear> query;           ///< plain queries, or:
    std::optional<linear> query_a, query_b;  ///< low-rank queries
    std::optional<norm> query_a_norm;
    linear kv_a;
    norm kv_a_norm;
    device_buffer kv_b;  ///< absorbed by the attention op
    const prepared_op* rope_query = nullptr;
    const prepared_op* rope_key = nullptr;
    const prepared_op* append = nullptr;
    const prepared_op* attention = nullptr;
    linear output;  ///< adds to the residual stream
};

struct gqa_attention {
    linear query, key, value;
    std::optional<norm> query_norm, key_norm;
    const prepared_op* rope_query = nullptr;
    const prepared_op* rope_key = nullptr;
    const prepared_op* append = nullptr;
    const prepared_op* attention = nullptr;
    linear output;  ///< adds to the residual stream
};

/// Router, routed experts (their weights live in the expert store) and shared experts of one layer.
struct moe_layer {
    linear router;
    const prepared_op* topk = nullptr;
    device_buffer choice_bias;  ///< f32 [experts]; empty: none
    const prepared_op* experts = nullptr;
    std::optional<gated_ffn> shared;
    const prepared_op* combine = nullptr;
};

struct dense_layer {
    gated_ffn ffn;
    const prepared_op* combine = nullptr;  ///< adds the block's output to the residual stream
};

struct model_layer {
    std::int32_t index = 0;
    norm input_norm, post_attention_norm;
    std::variant<mla_attention, gqa_attention> attention;
    std::variant<dense_layer, moe_layer> feed_forward;
};

/// A multi-token-prediction module (DeepSeek-V3, section 2.2): predicts the token after next from a hidden state and the
/// next token. Embedding and head are the model's.
struct mtp_module {
    norm embedding_norm, hidden_norm;
    linear projection;  ///< [hidden, 2 * hidden]: of the normalised embedding, then the normalised hidden state
    model_layer block;  ///< its index is the number of layers of the model
    norm head_norm;
};

/// Everything of a model that is resident for its whole life.
struct model_weights {
    const prepared_op* embed = nullptr;
    device_buffer embedding;  ///< rows as stored in the checkpoint; empty: see embedding_rows
    std::optional<embedding_file> embedding_rows;  ///< where the table stays on disk
    std::vector<model_layer> layers;
    norm final_norm;
    linear head;
    std::optional<mtp_module> mtp;  ///< only where it was asked for
    device_buffer rope;       ///< f32 [context, width], see rope_table
    std::uint64_t dense_bytes = 0;   ///< in the checkpoint
    std::uint64_t unlocked_bytes = 0;  ///< that the system may swap out
};

}  // namespace moira
