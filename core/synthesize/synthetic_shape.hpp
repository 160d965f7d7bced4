#pragma once

#include "core/base/ids.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// Whose tensor names and configuration a synthetic model has.
enum class synthetic_family { qwen3_moe, olmoe, deepseek_v2, deepseek_v3, gpt_oss };

/// The dimensions of a model to be made. Not model_shape: it also describes models that this build cannot run.
struct synthetic_shape {
    std::string name; ///< as given to `moira synth`
    synthetic_family family = synthetic_family::qwen3_moe;
    std::int32_t vocabulary = 0, hidden = 0, layers = 0, context_max = 0;
    std::int32_t heads = 0, kv_heads = 0;
    std::int32_t head_dim = 0;              ///< deepseek: of queries and keys without the rotary part, and of values
    std::int32_t kv_rank = 0, rope_dim = 0; ///< deepseek
    std::int32_t experts = 0, top_k = 0, expert_inner = 0;
    std::int32_t shared_experts = 0;
    std::int32_t dense_inner = 0, dense_layers = 0; ///< leading layers without experts
    std::int32_t window = 0;                        ///< gpt_oss: of every other layer
    double norm_epsilon = 1e-6, rope_theta = 10'000.0;
    std::optional<token_id> bos, pad;
    token_id eos = 0;
};

/// The published dimensions, with the published number of layers.
const std::vector<synthetic_shape>& synthetic_shapes();

/// Null where nobody knows the name.
const synthetic_shape* find_synthetic_shape(std::string_view name);

/// "qwen3-30b-a3b, olmoe-1b-7b, ..."
std::string synthetic_shape_names();

/// config.json's model_type.
std::string_view model_type_of(synthetic_family family) noexcept;

/// Texts of config.json, generation_config.json, tokenizer.json and tokenizer_config.json.
std::string synthetic_config_json(const synthetic_shape& shape, bool fp8, std::uint64_t seed);
std::string synthetic_generation_config_json(const synthetic_shape& shape);
std::string synthetic_tokenizer_json(const synthetic_shape& shape);
std::string synthetic_tokenizer_config_json(const synthetic_shape& shape);

/// Whether config.json's text says that `moira synth` made the folder.
bool is_synthetic_config(std::string_view config_json);

} // namespace moira
