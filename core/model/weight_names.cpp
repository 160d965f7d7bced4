#include "core/model/architectures/architecture.hpp"

namespace moira {

void weight_list::add_ffn(ffn_weight_names& names, const std::string& prefix, std::int64_t hidden, std::int64_t inner) {
    add(names.gate, prefix + "gate_proj.weight", {inner, hidden});
    add(names.up, prefix + "up_proj.weight", {inner, hidden});
    add(names.down, prefix + "down_proj.weight", {hidden, inner});
}

model_weight_names weight_names(const model_shape& shape) {
    model_weight_names names;
    const auto* described = find_architecture(shape.architecture);
    if (!described)
        return names;
    weight_list outer;
    described->outer_weights(shape, names, outer);
    names.layers.resize(static_cast<std::size_t>(shape.layers));
    for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
        weight_list weights;
        described->layer_weights(shape, layer, names.layers[static_cast<std::size_t>(layer)], weights);
    }
    return names;
}

} // namespace moira
