#pragma once

#include "core/model/config_reader.hpp"
#include "core/model/model_shape.hpp"

namespace moira {

/// Ranges of single dimensions: several times what any published model has. What is larger is absurd, and refusing it
/// keeps every product of two dimensions in 64 bits and every per-layer table small. check_shape uses the same.
inline constexpr integer_range vocabulary_range{1, 1 << 22}; ///< the largest published ones have about 262,000
inline constexpr integer_range hidden_range{1, 1 << 16};     ///< 16,384 (Llama 3.1 405B)
inline constexpr integer_range layers_range{1, 1024};        ///< 126 (Llama 3.1 405B)
inline constexpr integer_range context_range{1, 1 << 24};    ///< 10 million (Llama 4 Scout)
inline constexpr integer_range inner_range{1, 1 << 20};      ///< 53,248 (Llama 3.1 405B)
inline constexpr integer_range scale_block_range{1, 65'536}; ///< 128
inline constexpr integer_range heads_range{1, 1024};         ///< 128
inline constexpr integer_range head_dim_range{1, 1024};      ///< 256 (Gemma)
inline constexpr integer_range rank_range{1, 1 << 16};       ///< 1,536 (DeepSeek-V3)
inline constexpr integer_range experts_range{1, 1 << 14};    ///< 512 (Qwen3-Next)
inline constexpr integer_range shared_experts_range{0, 64};
inline constexpr integer_range mtp_layers_range{0, 8};
inline constexpr number_range epsilon_range{1e-12, 1e-1};
inline constexpr number_range theta_range{1.5, 1e12};
inline constexpr number_range factor_range{1e-3, 1e6};
inline constexpr number_range expert_scale_range{1e-6, 1e6};
/// Experts of all layers together; DeepSeek-V3 has 14,848. Their names cost about 400 bytes each.
inline constexpr std::int64_t experts_total_max = 1 << 18;
inline constexpr std::size_t end_tokens_max = 64;

/// The rotary part of a configuration, in the Hub's spelling (rope_theta beside rope_scaling) and in transformers 5's
/// (rope_parameters with rope_theta inside). Complaints go to `config`.
rope_shape read_rope(config_reader& config, std::int32_t width, bool interleaved, std::int32_t context_max);

/// vocab_size, hidden_size, num_hidden_layers, max_position_embeddings, rms_norm_eps, tie_word_embeddings; refuses
/// activations other than SiLU.
void read_common_dimensions(config_reader& config, model_shape& shape);

} // namespace moira
