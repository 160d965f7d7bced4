#pragma once

#include "core/synthesize/synthetic_shape.hpp"

namespace moira {

/// A published shape with everything small but its structure.
inline synthetic_shape tiny_shape(const char* name) {
    auto shape = *find_synthetic_shape(name);
    shape.vocabulary = 300;
    shape.hidden = 48;
    shape.layers = 2;
    shape.context_max = 64;
    shape.heads = 4;
    shape.kv_heads = shape.kv_heads < 16 ? 2 : 4;
    shape.head_dim = 16;
    shape.experts = 8;
    shape.top_k = 2;
    shape.expert_inner = 20;
    shape.dense_inner = 24;
    if (shape.kv_rank > 0) {
        shape.kv_rank = 24;
        shape.rope_dim = 8;
    }
    if (shape.bos)
        shape.bos = 297;
    if (shape.pad)
        shape.pad = 298;
    shape.eos = 299;
    return shape;
}

} // namespace moira
