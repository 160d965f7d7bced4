#pragma once

#include "core/execute/op_provider.hpp"
#include "core/model/model_shape.hpp"
#include "core/model/checkpoint_weight.hpp"

#include <cstdint>
#include <variant>
#include <vector>

namespace moira {

/// The maxima that ops are prepared for.
struct execution_limits {
    std::int32_t rows_max = 512;        ///< of one step
    std::int32_t logits_rows_max = 16;  ///< rows of one head launch: logits of a whole prompt would not fit
    std::int32_t context_max = 0;
    std::int32_t page_tokens = 16;
    std::int32_t pages = 0;
    std::uint32_t kv_type = MOIRA_TYPE_F32;  ///< of keys and values; see choose_kv_type
};

/// Describes every op of a model: what plugins are asked for, before any weight is read. All padding is zero, so that
/// equal descriptions have equal bytes.
class op_describer {
public:
    op_describer(const model_shape& shape, const execution_limits& limits) : shape_(shape), limits_(limits) {}

    moira_embedding_desc embedding(std::uint32_t weight_type) const;
    moira_rmsnorm_desc rmsnorm(std::int32_t width) const;
    moira_rope_desc rope(std::int32_t heads) const;
    moira_kv_append_desc kv_append() const;
    moira_attention_mla_desc attention_mla(std::uint32_t weight_type) const;  ///< precondition: shape.mla; without scales
    moira_attention_gqa_desc attention_gqa() const;                           ///< precondition: shape.gqa

    struct linear_form {
        std::int32_t n = 0, k = 0;  ///< output and input columns
        std::uint32_t compute = MOIRA_COMPUTE_AUTO;
        bool accumulate = false, bias = false;
    };
    moira_gemm_desc linear(const linear_form& form, const moira_quantization& weight) const;
    moira_gemm_desc head(const moira_quantization& weight) const;
    moira_gemm_desc router(const moira_quantization& weight) const;  ///< in float32: a router must not lose bits

    moira_router_topk_desc router_topk() const;
    moira_expert_ffn_desc routed_experts(const moira_quantization& weight) const;
    moira_expert_ffn_desc every_row_ffn(std::int32_t inner, const moira_quantization& weight) const;
    moira_expert_groups_desc expert_groups() const;
    moira_combine_desc combine_experts() const;
    moira_combine_desc add_block() const;  ///< residual += block output

private:
    const model_shape& shape_;
    execution_limits limits_;
};

/// Packing of the weights that these ops read.
moira_pack_desc packing_of(const moira_gemm_desc& desc);
moira_pack_desc packing_of(const moira_expert_ffn_desc& desc);
moira_pack_desc packing_of(const moira_attention_mla_desc& desc);

using op_description =
    std::variant<moira_embedding_desc, moira_rmsnorm_desc, moira_rope_desc, moira_kv_append_desc, moira_attention_gqa_desc,
                 moira_attention_mla_desc, moira_gemm_desc, moira_router_topk_desc, moira_expert_ffn_desc, moira_combine_desc>;

const moira_op_header& header_of(const op_description& description) noexcept;

/// How the weights of a model are read: those of one layer stand for all.
struct weight_forms {
    std::uint32_t embedding = MOIRA_TYPE_F32;
    std::uint32_t kv_b = MOIRA_TYPE_F32;  ///< multi-head latent attention only
    moira_quantization head{}, linear{}, experts{};
};

/// One op of every kind that the model uses, in the order of the layer loop: what `moira plugins --why` asks about. Two
/// gemms where head and layers are stored in different ways.
std::vector<op_description> ops_of_model(const model_shape& shape, const execution_limits& limits, const weight_forms& weights);

}  // namespace moira
