#pragma once

#include "core/base/error.hpp"
#include "core/execute/layer_weights.hpp"
#include "core/execute/op_descriptions.hpp"
#include "core/experts/checkpoint_slab_source.hpp"
#include "core/model/checkpoint.hpp"

#include <functional>

namespace moira {

/// Called with (bytes done, bytes in all) while loading.
using load_progress = std::function<void(std::uint64_t, std::uint64_t)>;

/// The plugin's op for the routed experts, and how their slabs are packed.
struct expert_execution {
    const prepared_op* op = nullptr;
    expert_packing packing;
};

/// Prepares every op of the model and loads its dense weights. Errors: those of op_set, device_buffer and checkpoint.
class weight_loader {
public:
    weight_loader(const checkpoint& model, const model_weight_names& names, const execution_limits& limits, op_set& ops,
                  const op_provider& memory, device_queue& queue, load_progress progress);

    /// Absent experts (a model without MoE layers) are an error of the shape check, not of this function.
    result<expert_execution> prepare_experts(expert_precision precision);

    /// With the first multi-token-prediction module when the names have it. `embedding_on_disk`: rows of the embedding
    /// table are read when tokens need them.
    result<model_weights> load(const expert_execution& experts, bool embedding_on_disk = false);

private:
    result<norm> load_norm(const std::string& name, std::int32_t width);
    result<linear> load_linear(const std::string& name, const std::string& bias_name, std::int32_t n, std::int32_t k,
                               bool accumulate = false);
    result<linear> load_packed(const moira_gemm_desc& desc, const checkpoint_weight& stored, const std::string& bias_name);
    result<gated_ffn> load_ffn(const ffn_weight_names& names, std::int32_t inner);
    result<mla_attention> load_mla(const attention_weight_names& names, const mla_shape& shape);
    result<gqa_attention> load_gqa(const attention_weight_names& names, const gqa_shape& shape);
    result<moe_layer> load_moe(const layer_weight_names& names, const expert_execution& experts);
    result<dense_layer> load_dense(const layer_weight_names& names);
    result<model_layer> load_layer(std::int32_t index, bool is_moe, const expert_execution& experts);
    result<mtp_module> load_mtp(const expert_execution& experts);

    /// Errors: those of find_weight.
    result<checkpoint_weight> stored(const std::string& name) const;
    result<std::vector<std::byte>> read_bytes(const tensor_location& tensor);
    result<std::vector<std::byte>> read_scales(const tensor_location& scales);
    /// A matrix in a type that needs no scales: block-scaled weights become F32.
    result<std::vector<std::byte>> read_widened(const checkpoint_weight& weight);
    result<device_buffer> load_f32(const std::string& name, std::int32_t elements);
    result<device_buffer> to_device(const void* bytes, std::uint64_t count, std::uint64_t alignment = device_alignment);
    /// Device memory that is locked where it can be.
    result<device_buffer> create_buffer(std::uint64_t bytes, std::uint64_t alignment);
    result<device_buffer> pack(const op_provider& provider, const moira_pack_desc& desc,
                               std::span<const checkpoint_weight> weights);
    result<device_buffer> pack_bytes(const op_provider& provider, const moira_pack_desc& desc,
                                     std::span<const moira_pack_source> sources, const std::string& name);
    result<device_buffer> load_kv_b(const prepared_op& attention, const moira_pack_desc& desc,
                                    const checkpoint_weight& kv_b);

    const checkpoint& model_;
    const model_shape& shape_;
    const model_weight_names& names_;
    op_describer describe_;
    execution_limits limits_;
    op_set& ops_;
    const op_provider& memory_;
    device_queue& queue_;
    load_progress progress_;
    std::uint64_t loaded_bytes_ = 0, unlocked_bytes_ = 0;
    std::uint64_t dense_bytes_total_ = 0;
};

}  // namespace moira
