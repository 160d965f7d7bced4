#include "core/experts/checkpoint_slab_source.hpp"

#include "core/base/checked.hpp"
#include "core/experts/expert_checksums.hpp"
#include "core/experts/expert_files.hpp"
#include "core/experts/expert_read_plan.hpp"
#include "core/experts/model_file_reader.hpp"
#include "core/experts/packed_slab_source.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/fp8_quantizer.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace moira {
namespace {

using expert_matrices = std::array<checkpoint_weight, 3>; // gate, up, down

std::string describe_tensor(const tensor_location& tensor) {
    std::string text = tensor.name + " is " + std::string(tensor_type_name(tensor.type)) + " [";
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis)
        text += (axis == 0 ? "" : ", ") + std::to_string(tensor.shape[axis]);
    return text + "]";
}

result<expert_matrices> find_expert(const checkpoint& model, const ffn_weight_names& names) {
    const std::array<const std::string*, 3> wanted = {&names.gate, &names.up, &names.down};
    expert_matrices found;
    for (std::size_t index = 0; index < found.size(); ++index) {
        if (!model.find(*wanted[index]))
            return fail(errc::invalid_config, "the checkpoint has no tensor " + *wanted[index]);
        const auto stored = find_weight(model, *wanted[index]);
        if (!stored)
            return tl::unexpected(stored.error());
        found[index] = *stored;
    }
    return found;
}

struct expert_shape {
    std::int64_t inner = 0, hidden = 0;
    moira_quantization quantization{};
};

/// The shape that all experts must have: that of the first one.
result<expert_shape> read_expert_shape(const expert_matrices& matrices) {
    const tensor_location& gate = *matrices[0].weight;
    constexpr std::int64_t dimension_max = std::numeric_limits<std::uint32_t>::max();
    if (gate.shape.size() != 2 || gate.shape[0] < 1 || gate.shape[1] < 1 || gate.shape[0] > dimension_max ||
        gate.shape[1] > dimension_max)
        return fail(errc::invalid_config, describe_tensor(gate) + ", expected a matrix [inner, hidden]");
    return expert_shape{.inner = gate.shape[0], .hidden = gate.shape[1], .quantization = matrices[0].quantization};
}

result<void> check_expert(const expert_matrices& matrices, const expert_shape& shape) {
    for (std::size_t index = 0; index < matrices.size(); ++index) {
        const std::int64_t rows = index == 2 ? shape.hidden : shape.inner;
        const std::int64_t columns = index == 2 ? shape.inner : shape.hidden;
        const tensor_location& tensor = *matrices[index].weight;
        if (tensor.shape != std::vector<std::int64_t>{rows, columns} ||
            !same_quantization(matrices[index].quantization, shape.quantization))
            return fail(errc::invalid_config, describe_tensor(tensor) + ", but the model's experts need [" +
                                                  std::to_string(rows) + ", " + std::to_string(columns) +
                                                  "] of the type of the first one");
    }
    return {};
}

/// The first expert of the model, which speaks for all.
result<expert_matrices> find_first_expert(const checkpoint& model, const model_weight_names& names) {
    for (const layer_weight_names& layer : names.layers)
        if (!layer.experts.empty())
            return find_expert(model, layer.experts.front());
    return fail(errc::invalid_config, "this model has no layer with experts");
}

/// FP8 is never forced on weights that have it already.
moira_quantization slot_quantization(const moira_quantization& source, expert_precision precision) {
    const bool quantizes = precision == expert_precision::fp8 && source.scale_mode == MOIRA_SCALE_NONE;
    return quantizes ? block_scaled_weight() : source;
}

std::string last_error(const op_provider& provider) {
    std::array<char, MOIRA_TEXT_BYTES> text{};
    provider.api->last_error(text.data(), text.size());
    text.back() = '\0';
    return text.data();
}

/// Shape of gate, up or down.
struct matrix_shape {
    std::uint32_t n = 0, k = 0;
};
matrix_shape shape_of(const moira_pack_desc& desc, std::size_t matrix) {
    return matrix == 2 ? matrix_shape{desc.k, desc.n} : matrix_shape{desc.n, desc.k};
}

/// In scratch: weights, then scales, matrix by matrix, each on a cache line of its own.
constexpr std::uint64_t quantized_alignment = 64;

std::uint64_t quantized_expert_bytes(const moira_pack_desc& desc) {
    std::uint64_t bytes = 0;
    for (std::size_t matrix = 0; matrix < 3; ++matrix) {
        const auto [n, k] = shape_of(desc, matrix);
        bytes += round_up(fp8_weight_bytes(n, k), quantized_alignment) +
                 round_up(fp8_scale_bytes(n, k), quantized_alignment);
    }
    return bytes;
}

/// What is read of an expert: its matrices, then their scales where they have some.
std::vector<const tensor_location*> tensors_of(const expert_matrices& matrices) {
    std::vector<const tensor_location*> tensors;
    for (const checkpoint_weight& matrix : matrices)
        tensors.push_back(matrix.weight);
    for (const checkpoint_weight& matrix : matrices)
        if (matrix.scales)
            tensors.push_back(matrix.scales);
    return tensors;
}

class checkpoint_slab_source final : public slab_source {
public:
    static result<std::unique_ptr<slab_source>> create(const checkpoint& model, const model_weight_names& names,
                                                       const op_provider& provider, expert_io io,
                                                       expert_precision precision);

    std::uint64_t slab_bytes() const noexcept override { return packing_.info.packed_bytes; }
    std::uint64_t scratch_bytes() const noexcept override {
        return read_bytes_max_ + quantized_bytes_ + packing_.info.scratch_bytes;
    }
    std::uint64_t disk_bytes() const noexcept override { return packing_.source_bytes; }

    result<void> load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) override;
    bool reads_apart() const noexcept override { return true; }
    result<void> read(expert_id expert, std::span<std::byte> scratch) override;
    result<void> pack(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) override;

    std::string description() const override {
        const std::string refusal = files_.refusal();
        return refusal.empty() ? choice_ : "buffered: " + refusal;
    }

private:
    checkpoint_slab_source(const expert_packing& packing, const op_provider& provider)
        : packing_(packing), api_(provider.api), device_(provider.device), provider_(provider) {}

    result<void> plan_all(const checkpoint& model, const model_weight_names& names);
    result<void> prepare_scales(expert_id expert, const expert_read_plan& plan, std::span<std::byte> scratch,
                                std::array<moira_pack_source, 3>& sources) const;
    result<void> quantize(std::array<moira_pack_source, 3>& sources, std::span<std::byte> into) const;

    expert_packing packing_;
    const moira_plugin_api* api_;
    moira_device* device_;
    const op_provider& provider_;
    model_file_reader files_;
    std::vector<std::vector<expert_file_place>> places_; // [layers][experts]; empty for dense layers
    std::uint64_t experts_ = 0, checksummed_ = 0;
    std::uint64_t read_bytes_max_ = 0;
    std::uint64_t quantized_bytes_ = 0; // scratch for what is packed instead of what was read
    std::string choice_;
};

result<std::unique_ptr<slab_source>> checkpoint_slab_source::create(const checkpoint& model,
                                                                    const model_weight_names& names,
                                                                    const op_provider& provider, expert_io io,
                                                                    expert_precision precision) {
    const auto packing = query_expert_packing(model, names, provider, precision);
    if (!packing)
        return tl::unexpected(packing.error());
    std::unique_ptr<checkpoint_slab_source> source(new checkpoint_slab_source(*packing, provider));
    if (auto planned = source->plan_all(model, names); !planned)
        return tl::unexpected(planned.error());
    if (packing->quantizes())
        source->quantized_bytes_ = quantized_expert_bytes(packing->desc);
    source->choice_ = open_expert_files(model, io, checked_mul(source->experts_, packing->source_bytes),
                                        source->checksummed_ > 0, source->files_);
    return source;
}

result<void> checkpoint_slab_source::plan_all(const checkpoint& model, const model_weight_names& names) {
    const expert_shape shape = {.inner = packing_.desc.n, .hidden = packing_.desc.k, .quantization = packing_.source};
    for (const layer_weight_names& layer : names.layers) {
        std::vector<expert_file_place>& places = places_.emplace_back();
        places.reserve(layer.experts.size());
        for (const ffn_weight_names& expert : layer.experts) {
            const auto matrices = find_expert(model, expert);
            if (!matrices)
                return tl::unexpected(matrices.error());
            if (auto checked = check_expert(*matrices, shape); !checked)
                return checked;
            auto plan = plan_expert_read(tensors_of(*matrices));
            if (!plan)
                return tl::unexpected(plan.error());
            read_bytes_max_ = std::max(read_bytes_max_, plan->scratch_bytes);
            auto checksums = checked_ranges(model, *plan);
            checksummed_ += !checksums.empty();
            places.push_back({*plan, std::move(checksums), expert.gate + " and what stands beside it"});
        }
        experts_ += layer.experts.size();
    }
    return {};
}

/// Replaces the sources by their quantised forms, which lie in `into`.
result<void> checkpoint_slab_source::quantize(std::array<moira_pack_source, 3>& sources,
                                              std::span<std::byte> into) const {
    const std::uint64_t element = packing_.source.weight_type == MOIRA_TYPE_F32 ? sizeof(float) : 2;
    std::uint64_t offset = 0;
    for (std::size_t matrix = 0; matrix < sources.size(); ++matrix) {
        const auto [n, k] = shape_of(packing_.desc, matrix);
        const std::uint64_t count = fp8_weight_bytes(n, k);
        const std::span source(static_cast<const std::byte*>(sources[matrix].weight), count * element);
        const auto weight = into.subspan(offset, count);
        offset += round_up(count, quantized_alignment);
        const auto scales = into.subspan(offset, fp8_scale_bytes(n, k));
        offset += round_up(scales.size(), quantized_alignment);
        if (auto done = quantize_to_fp8(packing_.source.weight_type, source, n, k, weight, scales); !done)
            return done;
        sources[matrix] = {weight.data(), scales.data(), nullptr};
    }
    return {};
}

/// Gives the sources their scales: those that were read, or those that quantising makes.
result<void> checkpoint_slab_source::prepare_scales(expert_id expert, const expert_read_plan& plan,
                                                    std::span<std::byte> scratch,
                                                    std::array<moira_pack_source, 3>& sources) const {
    const auto where = [&] {
        return "expert " + std::to_string(expert.expert) + " of layer " + std::to_string(expert.layer) + ": ";
    };
    if (packing_.quantizes()) {
        if (auto done = quantize(sources, scratch.subspan(read_bytes_max_, quantized_bytes_)); !done)
            return fail(done.error().code, where() + done.error().message);
        return {};
    }
    if (packing_.source.scale_mode == MOIRA_SCALE_NONE)
        return {};
    for (std::size_t matrix = 0; matrix < sources.size(); ++matrix) {
        const auto [n, k] = shape_of(packing_.desc, matrix);
        const auto scales = scratch.subspan(plan.tensor_offsets[sources.size() + matrix], fp8_scale_bytes(n, k));
        constexpr std::array<std::string_view, 3> names = {"gate scales", "up scales", "down scales"};
        if (auto checked = check_scales(scales, names[matrix]); !checked)
            return fail(checked.error().code, where() + checked.error().message);
        sources[matrix].scales = scales.data();
    }
    return {};
}

result<void> checkpoint_slab_source::load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) {
    auto done = read(expert, scratch);
    return done ? pack(expert, slab, scratch) : done;
}

result<void> checkpoint_slab_source::read(expert_id expert, std::span<std::byte> scratch) {
    const auto layer = static_cast<std::size_t>(expert.layer), index = static_cast<std::size_t>(expert.expert);
    if (expert.layer < 0 || expert.expert < 0 || layer >= places_.size() || index >= places_[layer].size())
        return fail(errc::invalid_argument,
                    "no expert " + std::to_string(expert.expert) + " in layer " + std::to_string(expert.layer));
    if (reinterpret_cast<std::uintptr_t>(scratch.data()) % read_alignment != 0 || scratch.size() < scratch_bytes())
        return fail(errc::invalid_argument, "scratch is too small or not aligned");
    return read_expert(files_, places_[layer][index], expert, scratch);
}

/// Precondition: read() has just filled `scratch`.
result<void> checkpoint_slab_source::pack(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) {
    if (reinterpret_cast<std::uintptr_t>(slab.data()) % packing_.info.alignment != 0 || slab.size() < slab_bytes())
        return fail(errc::invalid_argument, "slab is too small or not aligned");
    const expert_read_plan& plan =
        places_[static_cast<std::size_t>(expert.layer)][static_cast<std::size_t>(expert.expert)].plan;
    std::array<moira_pack_source, 3> sources{};
    for (std::size_t matrix = 0; matrix < sources.size(); ++matrix)
        sources[matrix].weight = scratch.data() + plan.tensor_offsets[matrix];
    if (auto prepared = prepare_scales(expert, plan, scratch, sources); !prepared)
        return prepared;
    const moira_status status = api_->pack(device_, &packing_.desc, sources.data(), slab.data(),
                                           scratch.data() + read_bytes_max_ + quantized_bytes_);
    if (status != MOIRA_OK)
        return fail(errc::device_error, provider_.plugin + " failed to pack expert " + std::to_string(expert.expert) +
                                            " of layer " + std::to_string(expert.layer) + ": " + last_error(provider_));
    return {};
}

} // namespace

moira_pack_desc expert_pack_desc(std::uint32_t inner, std::uint32_t hidden, const moira_quantization& quantization) {
    moira_pack_desc desc{};
    desc.struct_size = sizeof desc;
    desc.kind = MOIRA_PACK_EXPERT;
    desc.n = inner;
    desc.k = hidden;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = quantization;
    return desc;
}

result<moira_pack_info> query_packing(const op_provider& provider, const moira_pack_desc& desc,
                                      const std::string& what) {
    moira_pack_info info{};
    info.struct_size = sizeof info;
    if (provider.api->pack_query(provider.device, &desc, &info) != MOIRA_OK)
        return fail(errc::unsupported, provider.plugin + " cannot pack " + what + ": " + last_error(provider));
    constexpr std::uint64_t bytes_max = 1ULL << 40; // of one expert; keeps every later sum within bounds
    if (info.packed_bytes == 0 || info.packed_bytes > bytes_max || info.scratch_bytes > bytes_max ||
        info.alignment == 0 || (info.alignment & (info.alignment - 1)) != 0)
        return fail(errc::plugin_incompatible, provider.plugin + " packs an expert into " +
                                                   std::to_string(info.packed_bytes) + " bytes aligned to " +
                                                   std::to_string(info.alignment));
    return info;
}

bool expert_packing::quantizes() const noexcept {
    return !same_quantization(source, desc.quantization);
}

result<moira_quantization> expert_quantization(const checkpoint& model, const model_weight_names& names,
                                               expert_precision precision) {
    if (model.expert_layout())
        return stored_quantization(model, precision);
    const auto first = find_first_expert(model, names);
    if (!first)
        return tl::unexpected(first.error());
    return slot_quantization((*first)[0].quantization, precision);
}

result<expert_packing> query_expert_packing(const checkpoint& model, const model_weight_names& names,
                                            const op_provider& provider, expert_precision precision) {
    if (model.expert_layout())
        return query_stored_packing(model, provider, precision);
    const auto matrices = find_first_expert(model, names);
    if (!matrices)
        return tl::unexpected(matrices.error());
    const auto shape = read_expert_shape(*matrices);
    if (!shape)
        return tl::unexpected(shape.error());
    if (auto checked = check_expert(*matrices, *shape); !checked)
        return tl::unexpected(checked.error());
    expert_packing packing;
    packing.source = shape->quantization;
    packing.desc = expert_pack_desc(static_cast<std::uint32_t>(shape->inner), static_cast<std::uint32_t>(shape->hidden),
                                    slot_quantization(shape->quantization, precision));
    for (const tensor_location* tensor : tensors_of(*matrices)) {
        const auto sum = checked_add(packing.source_bytes, tensor->bytes);
        if (!sum)
            return fail(errc::corrupt_file, describe_tensor(*tensor) + " claims too many bytes");
        packing.source_bytes = *sum;
    }
    auto info = query_packing(provider, packing.desc, "experts like " + describe_tensor(*(*matrices)[0].weight));
    if (!info)
        return tl::unexpected(info.error());
    packing.info = *info;
    return packing;
}

result<std::unique_ptr<slab_source>> make_checkpoint_slab_source(const checkpoint& model,
                                                                 const model_weight_names& names,
                                                                 const op_provider& provider, expert_io io,
                                                                 expert_precision precision) {
    if (model.expert_layout())
        return make_packed_slab_source(model, names, provider, io, precision);
    return checkpoint_slab_source::create(model, names, provider, io, precision);
}

} // namespace moira
