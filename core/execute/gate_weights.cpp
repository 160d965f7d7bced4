#include "core/execute/gate_weights.hpp"

#include "core/base/float_formats.hpp"
#include "core/model/checkpoint_weight.hpp"

#include <string>
#include <utility>

namespace moira {

namespace {

result<std::vector<float>> read_f32(const checkpoint& model, const std::string& name) {
    auto found = find_weight(model, name);
    if (!found)
        return tl::unexpected(found.error());
    std::vector<std::byte> bytes(found->weight->bytes);
    if (auto read = model.read(*found->weight, bytes); !read)
        return tl::unexpected(read.error());
    std::vector<float> values(found->weight->elements());
    if (found->scales || !widen_to_f32(found->quantization.weight_type, bytes, values))
        return fail(errc::unsupported, model.folder().string() + ": tensor " + name + " is " +
                                           std::string(tensor_type_name(found->weight->type)) +
                                           "; routers are read as BF16, F16 or F32");
    return values;
}

} // namespace

result<gate_weights> read_gate_weights(const checkpoint& model) {
    const auto& shape = model.shape();
    gate_weights made;
    made.experts = shape.moe.experts;
    made.hidden = shape.hidden;
    made.sigmoid = shape.moe.scoring == router_scoring::sigmoid;
    for (const auto& layer : weight_names(shape).layers) {
        if (layer.router.empty())
            continue;
        auto router = read_f32(model, layer.router);
        if (!router)
            return tl::unexpected(router.error());
        auto norm = read_f32(model, layer.post_attention_norm);
        if (!norm)
            return tl::unexpected(norm.error());
        made.routers.push_back(std::move(*router));
        made.norms.push_back(std::move(*norm));
        if (!shape.moe.choice_bias)
            continue;
        auto bias = read_f32(model, layer.router_bias);
        if (!bias)
            return tl::unexpected(bias.error());
        made.biases.push_back(std::move(*bias));
    }
    return made;
}

} // namespace moira
