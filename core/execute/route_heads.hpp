#pragma once

#include "core/base/error.hpp"
#include "core/execute/device.hpp"
#include "core/execute/layer_weights.hpp"
#include "core/execute/op_descriptions.hpp"
#include "core/model/checkpoint.hpp"
#include "core/route/history_learner.hpp"
#include "core/route/linear_heads.hpp"
#include "core/route/predictor_file.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moira {

/// Trained heads on the device, each multiplied out to one matrix and run by the op that runs routers: so a head costs
/// what a router costs, whatever its rank.
class route_heads {
public:
    /// `ranks` experts are chosen by each head. Errors: op_missing, out_of_memory, device_error.
    static result<std::unique_ptr<route_heads>> create(const linear_heads& trained, const model_shape& shape,
                                                       const execution_limits& limits, std::int32_t ranks, op_set& ops,
                                                       const op_provider& memory, device_queue& queue);

    /// From the state that the router of model layer `from` sees to layer `from + ahead`; null: none, for one of both
    /// does not route, or `ahead` is not 1 .. heads_ahead_max.
    const linear* find(std::int32_t from, std::int32_t ahead) const noexcept;

    /// Picks experts by a head's log-odds alone.
    const prepared_op* choose() const noexcept { return choose_; }

private:
    explicit route_heads(const model_shape& shape) : layers_(shape.layer_is_moe) {}

    routing_layers layers_;
    const prepared_op* choose_ = nullptr;
    std::vector<linear> heads_; ///< as linear_heads::heads
};

/// What a predictor has to fit: a model's name, its shape and its routers.
predictor_subject subject_of(const model_shape& shape, const std::string& name, const std::string& fingerprint);

/// XXH64, in hex, over the stored bytes of every router: other models differ in it, and other precisions or packings of
/// the same one do not. Reads them. Errors: those of checkpoint::read, corrupt_file.
result<std::string> router_fingerprint(const checkpoint& model);

} // namespace moira
