#include "core/pack/expert_converter.hpp"

#include "core/model/checkpoint_weight.hpp"
#include "core/model/fp8_quantizer.hpp"
#include "core/pack/unit_writer.hpp"

#include <algorithm>
#include <cstring>

namespace moira {

namespace {

std::string last_error(const op_provider& provider) {
    std::array<char, MOIRA_TEXT_BYTES> text{};
    provider.api->last_error(text.data(), text.size());
    text.back() = '\0';
    return text.data();
}

/// As many bytes, all zero, at a place that suits any plugin.
result<std::span<std::byte>> cleared(huge_page_buffer& buffer, std::uint64_t bytes) {
    if (buffer.bytes().size() < bytes) {
        auto made = huge_page_buffer::create(bytes);
        if (!made)
            return tl::unexpected(made.error());
        buffer = std::move(*made);
    }
    const auto place = buffer.bytes().first(bytes);
    std::fill(place.begin(), place.end(), std::byte{0});
    return place;
}

std::array<const std::string*, 3> matrix_names(const ffn_weight_names& names) {
    return {&names.gate, &names.up, &names.down};
}

} // namespace

result<void> expert_converter::read_plain(const ffn_weight_names& names) {
    for (std::size_t index = 0; index < matrices_.size(); ++index) {
        const auto stored = find_weight(source_, *matrix_names(names)[index]);
        if (!stored)
            return tl::unexpected(stored.error());
        auto& into = matrices_[index];
        into.weight.resize(stored->weight->bytes);
        into.scales.resize(stored->scales ? stored->scales->bytes : 0);
        auto read = source_.read_part(*stored->weight, 0, into.weight);
        if (read && stored->scales)
            read = source_.read_part(*stored->scales, 0, into.scales);
        if (read && stored->scales)
            read = check_scales(into.scales, stored->scales->name);
        if (!read)
            return read;
    }
    return {};
}

/// Packs again what came out: bytes that the plugin would not have written are no expert, or one that would change.
result<void> expert_converter::read_packed(const ffn_weight_names& names) {
    const auto& form = *plan_.forms.conversion->from;
    const auto* tensor = source_.find(names.packed);
    if (!tensor)
        return fail(errc::corrupt_file, "tensor " + names.packed + " is missing");
    const auto packed = cleared(packed_, tensor->bytes), again = cleared(repacked_, tensor->bytes);
    if (!packed || !again)
        return tl::unexpected(packed ? again.error() : packed.error());
    if (auto read = source_.read_part(*tensor, 0, *packed); !read)
        return read;
    if (auto done = unpack(form, *packed); !done)
        return done;
    for (const auto& unpacked : matrices_)
        if (auto checked = check_scales(unpacked.scales, tensor->name); !checked)
            return checked;
    if (auto done = pack(form, *again); !done)
        return done;
    if (!std::equal(packed->begin(), packed->end(), again->begin()))
        return fail(errc::corrupt_file, "tensor " + tensor->name + " does not hold what " + form.provider->plugin +
                                            " packs from the weights in it: the file is damaged or of another " +
                                            "version; pack the model again from its source");
    return {};
}

result<void> expert_converter::unpack(const packed_form& form, std::span<const std::byte> packed) {
    std::array<void*, 3> weights{};
    auto scales = packed.subspan(form.layout.packed_bytes);
    for (std::size_t index = 0; index < matrices_.size(); ++index) {
        const auto sizes = form.layout.matrix_of(index);
        auto& into = matrices_[index];
        into.weight.resize(sizes.weight_bytes);
        into.scales.assign(scales.begin(), scales.begin() + static_cast<std::ptrdiff_t>(sizes.scale_bytes));
        scales = scales.subspan(sizes.scale_bytes);
        weights[index] = into.weight.data();
    }
    scratch_.resize(form.info.scratch_bytes);
    const auto& provider = *form.provider;
    if (provider.api->unpack(provider.device, &form.desc, packed.data(), weights.data(), scratch_.data()) != MOIRA_OK)
        return fail(errc::device_error, provider.plugin + " failed to unpack an expert: " + last_error(provider));
    return {};
}

/// The plugin's bytes, then the scales. `into` is zeros.
result<void> expert_converter::pack(const packed_form& form, std::span<std::byte> into) {
    std::array<moira_pack_source, 3> sources{};
    auto tail = into.subspan(form.layout.packed_bytes);
    for (std::size_t index = 0; index < matrices_.size(); ++index) {
        const auto& scales = matrices_[index].scales;
        sources[index] = {matrices_[index].weight.data(), scales.empty() ? nullptr : scales.data(), nullptr};
        std::copy(scales.begin(), scales.end(), tail.begin());
        tail = tail.subspan(scales.size());
    }
    scratch_.resize(form.info.scratch_bytes);
    const auto& provider = *form.provider;
    if (provider.api->pack(provider.device, &form.desc, sources.data(), into.data(), scratch_.data()) != MOIRA_OK)
        return fail(errc::device_error, provider.plugin + " failed to pack an expert: " + last_error(provider));
    return {};
}

/// Strip by strip of one block's rows, so that judging needs little memory.
result<double> expert_converter::round(const ffn_weight_names& names) {
    const auto type = plan_.forms.conversion->source.weight_type;
    const auto inner = static_cast<std::uint32_t>(source_.shape().moe.inner);
    const auto hidden = static_cast<std::uint32_t>(source_.shape().hidden);
    double error_max = 0;
    for (std::size_t index = 0; index < matrices_.size(); ++index) {
        const std::uint32_t n = index == 2 ? hidden : inner, k = index == 2 ? inner : hidden;
        const auto wide = std::exchange(matrices_[index].weight, {});
        auto& rounded = matrices_[index];
        rounded.weight.resize(fp8_weight_bytes(n, k));
        rounded.scales.resize(fp8_scale_bytes(n, k));
        const std::uint64_t row_bytes = wide.size() / n, scale_row_bytes = fp8_scale_bytes(1, k);
        for (std::uint32_t row = 0; row < n; row += scale_block) {
            const auto rows = std::min(scale_block, n - row);
            const auto strip = std::span(wide).subspan(row * row_bytes, rows * row_bytes);
            const auto weight = std::span(rounded.weight).subspan(std::uint64_t{row} * k, std::uint64_t{rows} * k);
            const auto scale = std::span(rounded.scales).subspan(row / scale_block * scale_row_bytes, scale_row_bytes);
            if (auto done = quantize_to_fp8(type, strip, rows, k, weight, scale); !done)
                return fail(done.error().code, "tensor " + *matrix_names(names)[index] + ", rows from " +
                                                   std::to_string(row) + ": " + done.error().message);
            error_max = std::max(error_max, rounding_error(type, strip, rows, k, weight, scale));
        }
    }
    return error_max;
}

void expert_converter::put_together(const packed_shard& shard, const packed_unit& unit) {
    plain_.resize(unit.bytes);
    for (const auto& tensor : std::span(shard.tensors).subspan(unit.first, unit.count)) {
        const auto& from = matrices_[tensor.matrix];
        const auto& bytes = tensor.origin == tensor_origin::converted_scales ? from.scales : from.weight;
        std::copy(bytes.begin(), bytes.end(),
                  plain_.begin() + static_cast<std::ptrdiff_t>(tensor.offset - unit.offset));
    }
}

result<expert_converter::converted> expert_converter::convert(const packed_shard& shard, const packed_unit& unit) {
    const auto& conversion = *plan_.forms.conversion;
    const auto& names = plan_.names.layers[static_cast<std::size_t>(unit.expert->layer)]
                            .experts[static_cast<std::size_t>(unit.expert->expert)];
    if (auto read = conversion.from ? read_packed(names) : read_plain(names); !read)
        return tl::unexpected(read.error());
    converted made;
    if (conversion.rounds()) {
        const auto error_max = round(names);
        if (!error_max)
            return tl::unexpected(error_max.error());
        made.error_max = *error_max;
    }
    if (!conversion.to) {
        put_together(shard, unit);
        made.bytes = plain_;
        return made;
    }
    const auto into = cleared(packed_, unit.bytes);
    if (!into)
        return tl::unexpected(into.error());
    if (auto packed = pack(*conversion.to, *into); !packed)
        return tl::unexpected(packed.error());
    made.bytes = *into;
    return made;
}

} // namespace moira
