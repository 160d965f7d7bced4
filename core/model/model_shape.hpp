#pragma once

#include "core/base/ids.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// How rotary angles depend on position (Su et al. 2021; YaRN: Peng et al. 2023).
struct rope_shape {
    enum class scaling_kind { none, linear, llama3, yarn };

    std::int32_t width = 0;   ///< rotated dimensions of a head
    bool interleaved = false; ///< pairs (2i, 2i + 1) instead of (i, i + width / 2)
    double theta = 10'000.0;
    scaling_kind scaling = scaling_kind::none;
    double factor = 1.0;
    std::int32_t original_context = 0;                              ///< yarn, llama3
    double beta_fast = 32.0, beta_slow = 1.0;                       ///< yarn
    double mscale = 1.0, mscale_all_dim = 0.0;                      ///< yarn, DeepSeek's two magnitudes; 0: not given
    bool truncate = true;                                           ///< yarn: the ramp begins and ends at whole pairs
    std::optional<double> attention_factor;                         ///< yarn: given instead of derived
    double low_frequency_factor = 1.0, high_frequency_factor = 4.0; ///< llama3
};

/// Grouped-query attention (Ainslie et al. 2023).
struct gqa_shape {
    std::int32_t heads = 0, kv_heads = 0, head_dim = 0;
    bool query_key_norm = false; ///< RMSNorm of every query and key head
    bool row_norm = false;       ///< that norm spans all heads of a row instead
    bool bias = false;           ///< on q, k, v (and o when output_bias)
    bool output_bias = false;
    std::int32_t window = 0; ///< 0: none
};

/// Multi-head latent attention (DeepSeek-V2, section 2.1).
struct mla_shape {
    std::int32_t heads = 0;
    std::int32_t query_rank = 0; ///< 0: plain queries
    std::int32_t kv_rank = 0;
    std::int32_t key_dim = 0; ///< per head, without the rotary part
    std::int32_t rope_dim = 0;
    std::int32_t value_dim = 0;
    bool bias = false; ///< attention_bias: on q_a, kv_a and o
};

enum class router_scoring { softmax, sigmoid };

/// One layer's experts, or the whole model's where all layers agree (they do in every architecture so far).
struct moe_shape {
    std::int32_t experts = 0, top_k = 0;
    std::int32_t inner = 0;        ///< inner size of one routed expert
    std::int32_t shared_inner = 0; ///< inner size of all shared experts together, 0: none
    router_scoring scoring = router_scoring::softmax;
    bool choice_bias = false; ///< e_score_correction_bias
    std::int32_t groups = 1, groups_kept = 1;
    bool normalize = true;
    double scale = 1.0;
};

/// Everything about a model that fixes a shape or a formula. Filled by one reader per architecture; checked by
/// check_shape before anything is allocated from it.
struct model_shape {
    std::string architecture; ///< config.json's model_type
    std::int32_t vocabulary = 0, hidden = 0, layers = 0;
    std::int32_t context_max = 0;
    double norm_epsilon = 1e-6;
    rope_shape rope;
    std::optional<gqa_shape> gqa; ///< exactly one of gqa and mla
    std::optional<mla_shape> mla;
    std::int32_t dense_inner = 0; ///< of layers without experts
    moe_shape moe;
    std::vector<bool> layer_is_moe; ///< [layers]
    bool tied_embedding = false;
    /// quantization_config.weight_block_size: rows and columns of a weight that share one scale. Read only where
    /// weights have scales.
    std::int32_t scale_block_rows = 128, scale_block_columns = 128;
    std::int32_t mtp_layers = 0; ///< declared multi-token-prediction modules, stored as layers `layers` ...
    std::string quantized_from; ///< type that `moira pack` rounded the experts from ("BF16"); empty: not rounded
    std::optional<token_id> bos;
    std::vector<token_id> eos;

    std::int32_t moe_layers() const;
    /// Width of the query projection's output: all heads.
    std::int32_t query_width() const;
    /// Width of the attention output before the output projection.
    std::int32_t attention_width() const;
    /// f32 values that one token keeps in the KV cache of one layer: latent + rotary key, or keys + values.
    std::int32_t kv_width() const;
    /// Softmax scale, YaRN's magnitude included.
    double attention_scale() const;
};

/// Angles for every position, as kernels read them: [positions, width]: width / 2 cosines, then width / 2 sines,
/// multiplied by YaRN's attention factor where the model asks. Computed in double, rounded once.
std::vector<float> rope_table(const rope_shape& rope, std::int32_t positions);

} // namespace moira
