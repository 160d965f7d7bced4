#include "core/pack/pack_plan.hpp"

#include "core/base/checked.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/content_hash.hpp"
#include "core/model/kernel_type.hpp"
#include "core/model/safetensors_prefix.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <set>
#include <sys/stat.h>

namespace moira {

namespace {

constexpr std::uint64_t plan_version = 1; ///< another layout of the same tensors gets another number

packed_tensor copy_of(const tensor_location& source) {
    return {.name = source.name,
            .type = source.type,
            .shape = source.shape,
            .bytes = source.bytes,
            .origin = tensor_origin::copied,
            .source = &source};
}

packed_tensor rounded_of(const tensor_location& source) {
    return {.name = source.name,
            .type = tensor_type::f8_e4m3,
            .shape = source.shape,
            .bytes = source.elements(),
            .origin = tensor_origin::rounded,
            .source = &source};
}

packed_tensor scales_of(const tensor_location& source) {
    packed_tensor scales{.name = scale_name(source.name),
                         .type = tensor_type::f32,
                         .shape = scale_shape(source.shape[0], source.shape[1]),
                         .origin = tensor_origin::scales,
                         .source = &source};
    scales.bytes = static_cast<std::uint64_t>(scales.shape[0] * scales.shape[1]) * sizeof(float);
    return scales;
}

std::string shard_name(std::size_t index, std::size_t count) {
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
    return name.data();
}

/// Wide types first: every tensor is aligned to its elements although the format allows no gap between two.
void sort_wide_first(std::vector<packed_tensor>& tensors) {
    std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
        return tensor_type_bytes(a.type) > tensor_type_bytes(b.type);
    });
}

/// What an expert becomes in another form. Precondition: conversion.
std::vector<packed_tensor> converted_tensors(const planned_experts& forms, const ffn_weight_names& names,
                                             const tensor_location& source, const model_shape& shape) {
    if (forms.layout)
        return {{.name = names.packed,
                 .type = tensor_type::u8,
                 .shape = {static_cast<std::int64_t>(forms.layout->tensor_bytes())},
                 .bytes = forms.layout->tensor_bytes(),
                 .origin = tensor_origin::converted,
                 .source = &source}};
    // Types and sizes of a checkpoint, as of a layout of the same weights.
    const auto inner = static_cast<std::uint32_t>(shape.moe.inner), hidden = static_cast<std::uint32_t>(shape.hidden);
    const stored_layout sizes{{}, 0, inner, hidden, 0, forms.conversion->target};
    std::vector<packed_tensor> tensors;
    for (std::size_t index = 0; index < 3; ++index) {
        const auto matrix = sizes.matrix_of(index);
        const std::string& name = index == 0 ? names.gate : index == 1 ? names.up : names.down;
        tensors.push_back({.name = name,
                           .type = sizes.weight_type(),
                           .shape = {matrix.rows, matrix.columns},
                           .bytes = matrix.weight_bytes,
                           .origin = tensor_origin::converted,
                           .source = &source,
                           .matrix = index});
        if (matrix.scale_bytes > 0)
            tensors.push_back({.name = scale_name(name),
                               .type = tensor_type::f32,
                               .shape = scale_shape(matrix.rows, matrix.columns),
                               .bytes = matrix.scale_bytes,
                               .origin = tensor_origin::converted_scales,
                               .source = &source,
                               .matrix = index});
    }
    return tensors;
}

class planner {
public:
    planner(const checkpoint& model, const pack_wish& wish) : model_(model), wish_(wish) {}

    result<pack_plan> plan();

private:
    result<void> gather(const model_weight_names& names);
    result<std::vector<packed_tensor>> expert_tensors(const ffn_weight_names& names);
    result<void> add_matrix(const std::string& name, std::vector<packed_tensor>& tensors);
    result<const tensor_location*> take(const std::string& name);
    result<std::vector<std::uint32_t>> order_of(std::size_t layer, std::size_t experts) const;
    void add_unit(std::vector<packed_tensor> tensors, std::optional<expert_id> expert);
    result<void> finish();

    struct planned_expert {
        expert_id id;
        std::vector<packed_tensor> tensors;
    };

    const checkpoint& model_;
    const pack_wish& wish_;
    pack_plan plan_;
    std::vector<planned_expert> experts_;
    std::set<std::string_view> taken_; ///< names of tensors that belong to experts
    std::size_t paddings_ = 0;
};

/// A tensor that belongs to an expert; its scales belong there too.
result<const tensor_location*> planner::take(const std::string& name) {
    const auto* tensor = model_.find(name);
    if (!tensor)
        return fail(errc::corrupt_file, model_.folder().string() + ": tensor " + name + " is missing");
    taken_.insert(tensor->name);
    if (const auto* scales = model_.find(scale_name(name)))
        taken_.insert(scales->name);
    return tensor;
}

/// One matrix of an expert with its scales.
result<void> planner::add_matrix(const std::string& name, std::vector<packed_tensor>& tensors) {
    const auto found = take(name);
    if (!found)
        return tl::unexpected(found.error());
    const auto* weight = *found;
    const auto* scales = model_.find(scale_name(name));
    const bool rounds = wish_.experts == packed_precision::fp8 && !scales && weight->type != tensor_type::f8_e4m3;
    if (!rounds) {
        tensors.push_back(copy_of(*weight));
        if (scales)
            tensors.push_back(copy_of(*scales));
        return {};
    }
    const auto& shape = model_.shape();
    constexpr auto block = static_cast<std::int32_t>(scale_block);
    if (!kernel_type(weight->type) || weight->shape.size() != 2)
        return fail(errc::unsupported, "tensor " + name + " is " + std::string(tensor_type_name(weight->type)) +
                                           "; matrices of BF16, F16 and F32 can be rounded to FP8");
    if (shape.scale_block_rows != block || shape.scale_block_columns != block)
        return fail(errc::unsupported, model_.folder().string() + ": config.json has scales for other blocks than " +
                                           "128 x 128: its experts cannot be rounded too");
    plan_.quantized_from = tensor_type_name(weight->type);
    tensors.push_back(rounded_of(*weight));
    tensors.push_back(scales_of(*weight));
    return {};
}

result<std::vector<packed_tensor>> planner::expert_tensors(const ffn_weight_names& names) {
    std::vector<packed_tensor> tensors;
    if (model_.expert_layout() || plan_.forms.conversion) {
        const auto source = take(model_.expert_layout() ? names.packed : names.gate);
        if (!source)
            return tl::unexpected(source.error());
        if (!model_.expert_layout())
            for (const auto* name : {&names.up, &names.down})
                if (const auto taken = take(*name); !taken)
                    return tl::unexpected(taken.error());
        tensors = plan_.forms.conversion ? converted_tensors(plan_.forms, names, **source, model_.shape())
                                         : std::vector<packed_tensor>{copy_of(**source)};
    } else {
        for (const auto* name : {&names.gate, &names.up, &names.down})
            if (auto added = add_matrix(*name, tensors); !added)
                return tl::unexpected(added.error());
    }
    sort_wide_first(tensors);
    return tensors;
}

result<std::vector<std::uint32_t>> planner::order_of(std::size_t layer, std::size_t experts) const {
    std::vector<std::uint32_t> order(experts);
    std::iota(order.begin(), order.end(), 0U);
    if (layer >= wish_.orders.size() || wish_.orders[layer].empty())
        return order;
    if (!std::is_permutation(order.begin(), order.end(), wish_.orders[layer].begin(), wish_.orders[layer].end()))
        return fail(errc::invalid_argument, "the order of layer " + std::to_string(layer) + " does not name each of " +
                                                std::to_string(experts) + " experts once");
    return wish_.orders[layer];
}

result<void> planner::gather(const model_weight_names& names) {
    for (std::size_t layer = 0; layer < names.layers.size(); ++layer) {
        const auto& experts = names.layers[layer].experts;
        const auto order = order_of(layer, experts.size());
        if (!order)
            return tl::unexpected(order.error());
        for (const std::uint32_t expert : *order) {
            auto tensors = expert_tensors(experts[expert]);
            if (!tensors)
                return tl::unexpected(tensors.error());
            experts_.push_back(
                {{static_cast<std::int32_t>(layer), static_cast<std::int32_t>(expert)}, std::move(*tensors)});
        }
    }
    return {};
}

void planner::add_unit(std::vector<packed_tensor> tensors, std::optional<expert_id> expert) {
    std::uint64_t bytes = 0;
    for (const auto& tensor : tensors)
        bytes += tensor.bytes;
    const auto begin_of = [&](const packed_shard& shard) {
        return expert ? round_up(shard.data_bytes, expert_alignment) : shard.data_bytes;
    };
    if (plan_.shards.empty() ||
        (!plan_.shards.back().units.empty() && begin_of(plan_.shards.back()) + bytes > wish_.shard_bytes_max))
        plan_.shards.emplace_back();
    auto& shard = plan_.shards.back();
    const std::uint64_t begin = begin_of(shard);
    if (const std::uint64_t gap = begin - shard.data_bytes; gap > 0)
        shard.tensors.push_back({.name = std::string(padding_prefix) + std::to_string(paddings_++),
                                 .type = tensor_type::u8,
                                 .shape = {static_cast<std::int64_t>(gap)},
                                 .offset = shard.data_bytes,
                                 .bytes = gap});
    packed_unit unit{
        .expert = expert, .first = shard.tensors.size(), .count = tensors.size(), .offset = begin, .bytes = bytes};
    shard.data_bytes = begin + bytes;
    std::uint64_t next = begin;
    for (auto& tensor : tensors) {
        tensor.offset = next;
        next += tensor.bytes;
        shard.tensors.push_back(std::move(tensor));
    }
    shard.units.push_back(unit);
    ++plan_.units;
    if (expert) {
        ++plan_.experts;
        plan_.expert_bytes += bytes;
    }
}

result<void> planner::finish() {
    for (std::size_t index = 0; index < plan_.shards.size(); ++index) {
        auto& shard = plan_.shards[index];
        shard.file_name = shard_name(index, plan_.shards.size());
        const std::vector<std::uint64_t> no_hashes(shard.units.size());
        const auto prefix = packed_prefix(shard, no_hashes, plan_);
        if (!prefix)
            return tl::unexpected(prefix.error());
        shard.data_begin = prefix->size();
        plan_.file_bytes += shard.file_bytes();
    }
    return {};
}

result<pack_plan> planner::plan() {
    if (wish_.shard_bytes_max == 0)
        return fail(errc::invalid_argument, "a shard of 0 bytes holds nothing");
    auto forms = plan_experts(model_, wish_.experts == packed_precision::fp8, wish_.layout, wish_.source_plugins);
    if (!forms)
        return tl::unexpected(forms.error());
    plan_.forms = std::move(*forms);
    if (plan_.forms.conversion && plan_.forms.conversion->rounds()) {
        stored_layout before;
        before.quantization = plan_.forms.conversion->source;
        plan_.quantized_from = tensor_type_name(before.weight_type());
    }
    plan_.names = weight_names(model_.shape(), model_.shape().mtp_layers);
    if (auto gathered = gather(plan_.names); !gathered)
        return tl::unexpected(gathered.error());
    std::vector<const tensor_location*> others;
    for (const auto& [name, tensor] : model_.tensors())
        if (!taken_.contains(name))
            others.push_back(&tensor);
    std::sort(others.begin(), others.end(), [](const auto* a, const auto* b) {
        return std::pair(a->file, a->offset) < std::pair(b->file, b->offset);
    });
    std::vector<packed_tensor> dense;
    for (const auto* tensor : others)
        dense.push_back(copy_of(*tensor));
    sort_wide_first(dense);
    for (auto& tensor : dense)
        add_unit({std::move(tensor)}, std::nullopt);
    for (auto& expert : experts_)
        add_unit(std::move(expert.tensors), expert.id);
    if (auto finished = finish(); !finished)
        return tl::unexpected(finished.error());
    return std::move(plan_);
}

void add_source_file(content_hasher& hasher, const checkpoint& model, std::size_t file) {
    const auto number = static_cast<std::uint32_t>(file);
    struct stat status {};
    ::fstat(model.file_descriptor(number), &status); // what fails leaves zeros, which say as much
    hasher.add(model.files()[file].filename().string());
    hasher.add(model.file_bytes(number));
    hasher.add(static_cast<std::uint64_t>(status.st_mtim.tv_sec));
    hasher.add(static_cast<std::uint64_t>(status.st_mtim.tv_nsec));
}

} // namespace

result<pack_plan> plan_pack(const checkpoint& model, const pack_wish& wish) {
    return planner(model, wish).plan();
}

result<std::string> packed_prefix(const packed_shard& shard, std::span<const std::uint64_t> hashes,
                                  const pack_plan& plan) {
    std::vector<tensor_entry> entries;
    for (const auto& tensor : shard.tensors)
        entries.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes});
    std::vector<checksum_range> ranges;
    for (std::size_t index = 0; index < shard.units.size(); ++index)
        ranges.push_back({shard.units[index].offset, shard.units[index].bytes, hashes[index]});
    std::map<std::string, std::string> metadata = {{"format", "pt"},
                                                   {std::string(checksums_key), checksums_text(ranges, 0)}};
    if (!plan.quantized_from.empty())
        metadata["quantized_from"] = plan.quantized_from;
    if (plan.forms.layout)
        metadata[std::string(expert_layout_key)] = layout_text(*plan.forms.layout);
    return safetensors_prefix(entries, metadata, expert_alignment);
}

std::uint64_t plan_fingerprint(const pack_plan& plan, const checkpoint& model) {
    content_hasher hasher;
    hasher.add(plan_version);
    for (std::size_t file = 0; file < model.files().size(); ++file)
        add_source_file(hasher, model, file);
    hasher.add(plan.quantized_from);
    if (plan.forms.layout)
        hasher.add(layout_text(*plan.forms.layout));
    for (const auto& shard : plan.shards) {
        hasher.add(shard.file_name);
        for (const auto& tensor : shard.tensors) {
            hasher.add(tensor.name);
            hasher.add(static_cast<std::uint64_t>(tensor.origin));
            hasher.add(tensor.offset);
            hasher.add(tensor.bytes);
            hasher.add(tensor.source ? tensor.source->file : 0);
            hasher.add(tensor.source ? tensor.source->offset : 0);
        }
    }
    return hasher.value();
}

} // namespace moira
