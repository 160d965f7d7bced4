#pragma once

#include "core/base/error.hpp"
#include "core/execute/device.hpp"
#include "core/execute/layer_weights.hpp"
#include "core/execute/step_arena.hpp"
#include "core/model/model_shape.hpp"

namespace moira {

class expert_pruning;
class route_probe;
class route_override;

/// What every block of a step borrows. `probe` may be null: nobody predicts. `pruning` may be null: all chosen experts
/// run. So may `routes`: routers choose.
struct step_context {
    const model_shape& shape;
    const model_weights& weights;
    step_arena& arena;
    device_queue& queue;
    route_probe* probe = nullptr;
    std::span<const std::int32_t> drafted_rows = {};  ///< of the step, ascending: their experts are counted apart
    std::span<const std::int32_t> prompt_rows = {};   ///< of the step, ascending: their experts may not be wanted again
    expert_pruning* pruning = nullptr;
    route_override* routes = nullptr;
};

/// x += attention(norm(x)) for all rows of the step; `kv_pool` is the layer's part of the KV cache,
/// f32 [pages * page_tokens, kv_width].
result<void> run_attention(const step_context& step, const model_layer& layer, void* kv_pool);

/// Arguments of the ops that blocks share.
moira_rmsnorm_args norm_args(const norm& weights, const step_arena& arena, const float* in, float* out, std::int32_t width);
moira_gemm_args linear_args(const linear& weights, const step_arena& arena, const float* x, std::int32_t x_width,
                            float* out, std::int32_t out_stride);

}  // namespace moira
