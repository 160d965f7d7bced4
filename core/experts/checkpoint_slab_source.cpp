#include "core/experts/checkpoint_slab_source.hpp"

#include "core/base/checked.hpp"
#include "core/experts/available_memory.hpp"
#include "core/experts/expert_read_plan.hpp"
#include "core/experts/model_file_reader.hpp"
#include "core/model/kernel_type.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace moira {
namespace {

using expert_tensors = std::array<const tensor_location*, 3>; // gate, up, down

result<expert_tensors> find_expert(const checkpoint& model, const ffn_weight_names& names) {
    const expert_tensors found = {model.find(names.gate), model.find(names.up), model.find(names.down)};
    const std::array<const std::string*, 3> wanted = {&names.gate, &names.up, &names.down};
    for (std::size_t index = 0; index < found.size(); ++index)
        if (!found[index])
            return fail(errc::invalid_config, "the checkpoint has no tensor " + *wanted[index]);
    return found;
}

std::string describe_tensor(const tensor_location& tensor) {
    std::string text = tensor.name + " is " + std::string(tensor_type_name(tensor.type)) + " [";
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis)
        text += (axis == 0 ? "" : ", ") + std::to_string(tensor.shape[axis]);
    return text + "]";
}

bool is_matrix(const tensor_location& tensor, std::int64_t rows, std::int64_t columns, tensor_type type) {
    return tensor.shape == std::vector<std::int64_t>{rows, columns} && tensor.type == type;
}

struct expert_shape {
    std::int64_t inner = 0, hidden = 0;
    tensor_type type = tensor_type::f32;
};

/// The shape that all experts must have: that of the first one.
result<expert_shape> read_expert_shape(const expert_tensors& tensors) {
    const tensor_location& gate = *tensors[0];
    constexpr std::int64_t dimension_max = std::numeric_limits<std::uint32_t>::max();
    if (gate.shape.size() != 2 || gate.shape[0] < 1 || gate.shape[1] < 1 || gate.shape[0] > dimension_max ||
        gate.shape[1] > dimension_max)
        return fail(errc::invalid_config, describe_tensor(gate) + ", expected a matrix [inner, hidden]");
    return expert_shape{.inner = gate.shape[0], .hidden = gate.shape[1], .type = gate.type};
}

result<void> check_expert(const expert_tensors& tensors, const expert_shape& shape) {
    for (std::size_t index = 0; index < tensors.size(); ++index) {
        const std::int64_t rows = index == 2 ? shape.hidden : shape.inner;
        const std::int64_t columns = index == 2 ? shape.inner : shape.hidden;
        if (!is_matrix(*tensors[index], rows, columns, shape.type))
            return fail(errc::invalid_config, describe_tensor(*tensors[index]) + ", but the model's experts need " +
                                                  std::string(tensor_type_name(shape.type)) + " [" +
                                                  std::to_string(rows) + ", " + std::to_string(columns) + "]");
    }
    return {};
}

std::string last_error(const op_provider& provider) {
    std::array<char, MOIRA_TEXT_BYTES> text{};
    provider.api->last_error(text.data(), text.size());
    text.back() = '\0';
    return text.data();
}

const ffn_weight_names* first_expert(const model_weight_names& names) {
    for (const layer_weight_names& layer : names.layers)
        if (!layer.experts.empty())
            return &layer.experts.front();
    return nullptr;
}

std::string mebibytes(std::uint64_t bytes) {
    return std::to_string(bytes / (1ULL << 20) + (bytes % (1ULL << 20) != 0)) + " MiB";
}

class checkpoint_slab_source final : public slab_source {
public:
    static result<std::unique_ptr<slab_source>> create(const checkpoint& model, const model_weight_names& names,
                                                       const op_provider& provider, expert_io io);

    std::uint64_t slab_bytes() const noexcept override { return packing_.info.packed_bytes; }
    std::uint64_t scratch_bytes() const noexcept override { return read_bytes_max_ + packing_.info.scratch_bytes; }
    std::uint64_t disk_bytes() const noexcept override { return packing_.source_bytes; }

    result<void> load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) override;

    std::string description() const override {
        const std::string refusal = files_.refusal();
        return refusal.empty() ? choice_ : "buffered: " + refusal;
    }

private:
    checkpoint_slab_source(const expert_packing& packing, const op_provider& provider)
        : packing_(packing), api_(provider.api), device_(provider.device), provider_(provider) {}

    result<void> plan_all(const checkpoint& model, const model_weight_names& names);
    void open_files(const checkpoint& model, expert_io io);

    expert_packing packing_;
    const moira_plugin_api* api_;
    moira_device* device_;
    const op_provider& provider_;
    model_file_reader files_;
    std::vector<std::vector<expert_read_plan>> plans_; // [layers][experts]; empty for dense layers
    std::uint64_t experts_ = 0;
    std::uint64_t read_bytes_max_ = 0;
    std::string choice_;
};

result<std::unique_ptr<slab_source>> checkpoint_slab_source::create(const checkpoint& model,
                                                                    const model_weight_names& names,
                                                                    const op_provider& provider, expert_io io) {
    const auto packing = query_expert_packing(model, names, provider);
    if (!packing)
        return tl::unexpected(packing.error());
    std::unique_ptr<checkpoint_slab_source> source(new checkpoint_slab_source(*packing, provider));
    if (auto planned = source->plan_all(model, names); !planned)
        return tl::unexpected(planned.error());
    source->open_files(model, io);
    return source;
}

result<void> checkpoint_slab_source::plan_all(const checkpoint& model, const model_weight_names& names) {
    const expert_shape shape = {
        .inner = packing_.desc.n, .hidden = packing_.desc.k, .type = model.find(first_expert(names)->gate)->type};
    for (const layer_weight_names& layer : names.layers) {
        std::vector<expert_read_plan>& plans = plans_.emplace_back();
        plans.reserve(layer.experts.size());
        for (const ffn_weight_names& expert : layer.experts) {
            const auto tensors = find_expert(model, expert);
            if (!tensors)
                return tl::unexpected(tensors.error());
            if (auto checked = check_expert(*tensors, shape); !checked)
                return checked;
            auto plan = plan_expert_read(*tensors);
            if (!plan)
                return tl::unexpected(plan.error());
            read_bytes_max_ = std::max(read_bytes_max_, plan->scratch_bytes);
            plans.push_back(*plan);
        }
        experts_ += layer.experts.size();
    }
    return {};
}

void checkpoint_slab_source::open_files(const checkpoint& model, expert_io io) {
    const std::uint64_t total = checked_mul(experts_, packing_.source_bytes).value_or(UINT64_MAX);
    bool direct = io == expert_io::direct;
    if (io == expert_io::automatic) {
        const std::uint64_t available = available_memory_bytes();
        direct = total > available / 2;
        choice_ = (direct ? "direct: " : "buffered: ") + mebibytes(total) + " of experts " +
                  (direct ? "do not fit" : "fit") + " in half of the " + mebibytes(available) + " of memory available";
    } else {
        choice_ = direct ? "direct, as set" : "buffered, as set";
    }
    for (std::size_t index = 0; index < model.files().size(); ++index)
        files_.add(model.file_descriptor(static_cast<std::uint32_t>(index)), model.files()[index], direct);
}

result<void> checkpoint_slab_source::load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) {
    const auto layer = static_cast<std::size_t>(expert.layer), index = static_cast<std::size_t>(expert.expert);
    if (expert.layer < 0 || expert.expert < 0 || layer >= plans_.size() || index >= plans_[layer].size())
        return fail(errc::invalid_argument,
                    "no expert " + std::to_string(expert.expert) + " in layer " + std::to_string(expert.layer));
    const bool aligned = reinterpret_cast<std::uintptr_t>(scratch.data()) % read_alignment == 0 &&
                         reinterpret_cast<std::uintptr_t>(slab.data()) % packing_.info.alignment == 0;
    if (!aligned || slab.size() < slab_bytes() || scratch.size() < scratch_bytes())
        return fail(errc::invalid_argument, "slab or scratch is too small or not aligned");
    const expert_read_plan& plan = plans_[layer][index];
    for (const expert_read& read : plan.all_reads())
        if (auto done = files_.read(read, scratch); !done)
            return done;
    std::array<moira_pack_source, 3> sources{};
    for (std::size_t tensor = 0; tensor < sources.size(); ++tensor)
        sources[tensor].weight = scratch.data() + plan.tensor_offsets[tensor];
    const moira_status status =
        api_->pack(device_, &packing_.desc, sources.data(), slab.data(), scratch.data() + read_bytes_max_);
    if (status != MOIRA_OK)
        return fail(errc::device_error, provider_.plugin + " failed to pack expert " + std::to_string(expert.expert) +
                                            " of layer " + std::to_string(expert.layer) + ": " + last_error(provider_));
    return {};
}

} // namespace

result<expert_packing> query_expert_packing(const checkpoint& model, const model_weight_names& names,
                                            const op_provider& provider) {
    const ffn_weight_names* first = first_expert(names);
    if (!first)
        return fail(errc::invalid_config, "this model has no layer with experts");
    const auto tensors = find_expert(model, *first);
    if (!tensors)
        return tl::unexpected(tensors.error());
    const auto shape = read_expert_shape(*tensors);
    if (!shape)
        return tl::unexpected(shape.error());
    if (auto checked = check_expert(*tensors, *shape); !checked)
        return tl::unexpected(checked.error());
    const auto type = kernel_type(shape->type);
    if (!type)
        return fail(errc::unsupported, describe_tensor(*(*tensors)[0]) + ": experts are read as F32, BF16 or F16");
    expert_packing packing;
    packing.desc.struct_size = sizeof packing.desc;
    packing.desc.kind = MOIRA_PACK_EXPERT;
    packing.desc.n = static_cast<std::uint32_t>(shape->inner);
    packing.desc.k = static_cast<std::uint32_t>(shape->hidden);
    packing.desc.compute = MOIRA_COMPUTE_AUTO;
    packing.desc.quantization.weight_type = *type;
    packing.info.struct_size = sizeof packing.info;
    for (const tensor_location* tensor : *tensors) {
        const auto sum = checked_add(packing.source_bytes, tensor->bytes);
        if (!sum)
            return fail(errc::corrupt_file, describe_tensor(*tensor) + " claims too many bytes");
        packing.source_bytes = *sum;
    }
    if (provider.api->pack_query(provider.device, &packing.desc, &packing.info) != MOIRA_OK)
        return fail(errc::unsupported, provider.plugin + " cannot pack experts like " +
                                           describe_tensor(*(*tensors)[0]) + ": " + last_error(provider));
    const moira_pack_info& info = packing.info;
    constexpr std::uint64_t bytes_max = 1ULL << 40; // of one expert; keeps every later sum within bounds
    if (info.packed_bytes == 0 || info.packed_bytes > bytes_max || info.scratch_bytes > bytes_max ||
        info.alignment == 0 || (info.alignment & (info.alignment - 1)) != 0)
        return fail(errc::plugin_incompatible, provider.plugin + " packs an expert into " +
                                                   std::to_string(info.packed_bytes) + " bytes aligned to " +
                                                   std::to_string(info.alignment));
    return packing;
}

result<std::unique_ptr<slab_source>> make_checkpoint_slab_source(const checkpoint& model,
                                                                 const model_weight_names& names,
                                                                 const op_provider& provider, expert_io io) {
    return checkpoint_slab_source::create(model, names, provider, io);
}

} // namespace moira
