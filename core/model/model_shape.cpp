#include "core/model/model_shape.hpp"

#include "core/model/yarn.hpp"

#include <algorithm>
#include <cmath>

namespace moira {

std::int32_t model_shape::moe_layers() const {
    return static_cast<std::int32_t>(std::count(layer_is_moe.begin(), layer_is_moe.end(), true));
}

std::int32_t model_shape::query_width() const {
    return mla ? mla->heads * (mla->key_dim + mla->rope_dim) : gqa->heads * gqa->head_dim;
}

std::int32_t model_shape::attention_width() const {
    return mla ? mla->heads * mla->value_dim : gqa->heads * gqa->head_dim;
}

std::int32_t model_shape::kv_width() const {
    return mla ? mla->kv_rank + mla->rope_dim : 2 * gqa->kv_heads * gqa->head_dim;
}

double model_shape::attention_scale() const {
    if (!mla)
        return 1.0 / std::sqrt(static_cast<double>(gqa->head_dim));
    const double scale = 1.0 / std::sqrt(static_cast<double>(mla->key_dim + mla->rope_dim));
    if (rope.scaling != rope_shape::scaling_kind::yarn || rope.mscale_all_dim == 0.0)
        return scale;
    // DeepSeek puts part of YaRN's magnitude on the whole score, once for the query and once for the key.
    const double magnitude = yarn_magnitude(rope.factor, rope.mscale_all_dim);
    return scale * magnitude * magnitude;
}

} // namespace moira
