#include "core/model/architectures/architecture.hpp"

#include <algorithm>

namespace moira {

void weight_list::add_ffn(ffn_weight_names& names, const std::string& prefix, std::int64_t hidden, std::int64_t inner) {
    add(names.gate, prefix + "gate_proj.weight", {inner, hidden});
    add(names.up, prefix + "up_proj.weight", {inner, hidden});
    add(names.down, prefix + "down_proj.weight", {hidden, inner});
}

model_weight_names weight_names(const model_shape& shape, std::int32_t mtp_modules) {
    model_weight_names names;
    const auto* described = find_architecture(shape.architecture);
    if (!described)
        return names;
    weight_list outer;
    described->outer_weights(shape, names, outer);
    mtp_modules = described->mtp_weights ? std::clamp(mtp_modules, 0, shape.mtp_layers) : 0;
    names.layers.resize(static_cast<std::size_t>(shape.layers + mtp_modules));
    names.mtp.resize(static_cast<std::size_t>(mtp_modules));
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        weight_list weights;
        described->layer_weights(shape, layer, names.layers[static_cast<std::size_t>(layer)], weights);
    }
    for (std::int32_t module = 0; module < mtp_modules; ++module) {
        weight_list weights;
        described->mtp_weights(shape, module, names.mtp[static_cast<std::size_t>(module)],
                               names.layers[static_cast<std::size_t>(shape.layers + module)], weights);
    }
    return names;
}

} // namespace moira
