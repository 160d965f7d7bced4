#pragma once

#include "core/model/checkpoint.hpp"
#include "core/model/config_reader.hpp"
#include "core/model/model_shape.hpp"

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moira {

/// A tensor that a checkpoint must hold.
struct expected_tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::string packed; ///< the tensor that holds it in a packed expert; empty: none can
};

/// Collects weights: one line says where a weight's name goes, what it is called and which shape it has.
class weight_list {
public:
    void add(std::string& slot, std::string name, std::vector<std::int64_t> shape) {
        slot = name;
        tensors_.push_back({std::move(name), std::move(shape), {}});
    }
    /// A gated feed-forward block: gate and up are [inner, hidden], down is [hidden, inner].
    void add_ffn(ffn_weight_names& names, const std::string& prefix, std::int64_t hidden, std::int64_t inner);
    /// Grouped-query attention: q_proj to o_proj with the biases that `shape` says; norms are the architecture's own.
    void add_gqa(attention_weight_names& names, const std::string& prefix, const model_shape& shape);
    /// Router and routed experts, of which each is a gated feed-forward block.
    void add_experts(layer_weight_names& names, const std::string& prefix, const model_shape& shape);
    /// Embedding, final norm and head under the names that nearly every checkpoint uses.
    void add_outer(model_weight_names& names, const model_shape& shape);

    const std::vector<expected_tensor>& tensors() const noexcept { return tensors_; }

private:
    std::vector<expected_tensor> tensors_;
};

/// What MOIRA knows of one architecture. Adding one means one file beside this one and its line in registry.cpp.
struct architecture {
    std::string_view model_type; ///< as in config.json
    /// Fills everything but the special tokens; complaints go to the reader.
    void (*read_config)(config_reader& config, model_shape& shape);
    /// Embedding, final norm, head.
    void (*outer_weights)(const model_shape& shape, model_weight_names& names, weight_list& weights);
    /// One of the layers 0 ... layers - 1.
    void (*layer_weights)(const model_shape& shape, std::int32_t layer, layer_weight_names& names,
                          weight_list& weights);
    /// Of multi-token-prediction module `module` and its decoder block; null where the architecture has none.
    void (*mtp_weights)(const model_shape& shape, std::int32_t module, mtp_weight_names& names,
                        layer_weight_names& block, weight_list& weights);
};

/// Null where nobody knows the type.
const architecture* find_architecture(std::string_view model_type) noexcept;

/// "deepseek_v3, olmoe, qwen3_moe"
std::string architecture_names();

} // namespace moira
