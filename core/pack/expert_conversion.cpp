#include "core/pack/expert_conversion.hpp"

#include "core/experts/packed_slab_source.hpp"
#include "core/model/checkpoint_weight.hpp"

#include <array>

namespace moira {

namespace {

/// The plugin that would run the model's experts with such weights.
result<const op_provider*> expert_plugin(const checkpoint& model, const moira_quantization& quantization,
                                         const op_selector& plugins) {
    const auto& shape = model.shape();
    moira_expert_ffn_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_EXPERT_FFN, static_cast<std::uint32_t>(shape.moe.top_k)};
    desc.hidden = static_cast<std::uint32_t>(shape.hidden);
    desc.inner = static_cast<std::uint32_t>(shape.moe.inner);
    desc.experts = static_cast<std::uint32_t>(shape.moe.experts);
    desc.activation = MOIRA_FFN_SILU_GATED;
    desc.quantization = quantization;
    const auto choice = plugins.choose(desc.header);
    if (!choice)
        return tl::unexpected(choice.error());
    return choice->provider;
}

result<packed_form> form_of(const checkpoint& model, const moira_quantization& quantization,
                            const op_selector& plugins) {
    const auto provider = expert_plugin(model, quantization, plugins);
    if (!provider)
        return tl::unexpected(provider.error());
    packed_form form;
    form.provider = *provider;
    form.desc = expert_pack_desc(static_cast<std::uint32_t>(model.shape().moe.inner),
                                 static_cast<std::uint32_t>(model.shape().hidden), quantization);
    const auto info = query_packing(**provider, form.desc, "experts as those of " + model.folder().string());
    if (!info)
        return tl::unexpected(info.error());
    if (info->alignment > packed_expert_alignment)
        return fail(errc::unsupported,
                    (*provider)->plugin + " wants experts at multiples of " + std::to_string(info->alignment) +
                        " bytes; in files they lie at multiples of " + std::to_string(packed_expert_alignment));
    form.info = *info;
    form.layout = {(*provider)->plugin, info->layout_id, form.desc.n, form.desc.k, info->packed_bytes, quantization};
    return form;
}

/// The quantisation that all plain experts share, prediction modules included.
result<moira_quantization> common_quantization(const checkpoint& model) {
    std::optional<moira_quantization> common;
    for (const auto& layer : weight_names(model.shape(), model.shape().mtp_layers).layers)
        for (const auto& names : layer.experts)
            for (const auto* name : {&names.gate, &names.up, &names.down}) {
                const auto weight = find_weight(model, *name);
                if (!weight)
                    return tl::unexpected(weight.error());
                if (common && !same_quantization(*common, weight->quantization))
                    return fail(errc::unsupported, "tensor " + *name + " is of another type than the experts before " +
                                                       "it: a plugin's layout holds experts of one type");
                common = weight->quantization;
            }
    if (!common)
        return fail(errc::unsupported, model.folder().string() + ": no layer has experts");
    return *common;
}

/// The plugin that undoes the layout in which the model's experts lie.
result<packed_form> source_form(const checkpoint& model, const op_selector* plugins) {
    const stored_layout& layout = *model.expert_layout();
    if (!plugins)
        return fail(errc::invalid_argument, model.folder().string() + " holds experts in " + layout_name(layout) +
                                                ": its plugin is needed to convert them");
    auto form = form_of(model, layout.quantization, *plugins);
    if (!form)
        return form;
    if (auto fits = query_stored_packing(model, *form->provider, expert_precision::keep); !fits)
        return tl::unexpected(fits.error());
    return form;
}

} // namespace

bool expert_conversion::rounds() const noexcept {
    return !same_quantization(source, target);
}

result<planned_experts> plan_experts(const checkpoint& model, bool fp8, const op_selector* target,
                                     const op_selector* source) {
    planned_experts planned;
    const auto* stored = model.expert_layout();
    if (!stored && !target)
        return planned;
    const auto found = stored ? result<moira_quantization>(stored->quantization) : common_quantization(model);
    if (!found)
        return tl::unexpected(found.error());
    expert_conversion conversion;
    conversion.source = *found;
    conversion.target = fp8 && found->scale_mode == MOIRA_SCALE_NONE ? block_scaled_weight() : *found;
    const auto block = static_cast<std::int32_t>(scale_block);
    if (conversion.rounds() && (model.shape().scale_block_rows != block || model.shape().scale_block_columns != block))
        return fail(errc::unsupported, model.folder().string() + ": config.json has scales for other blocks than " +
                                           "128 x 128: its experts cannot be rounded too");
    if (target) {
        auto form = form_of(model, conversion.target, *target);
        if (!form)
            return tl::unexpected(form.error());
        planned.layout = form->layout;
        if (stored && form->layout == *stored) {
            planned.layout = *stored; // whoever wrote it
            return planned;
        }
        conversion.to = std::move(*form);
    }
    if (stored) {
        auto form = source_form(model, source);
        if (!form)
            return tl::unexpected(form.error());
        conversion.from = std::move(*form);
    }
    planned.conversion = std::move(conversion);
    return planned;
}

} // namespace moira
