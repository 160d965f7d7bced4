#include "core/experts/packed_slab_source.hpp"

#include "core/base/checked.hpp"
#include "core/experts/expert_checksums.hpp"
#include "core/experts/expert_files.hpp"
#include "core/experts/model_file_reader.hpp"

#include <algorithm>
#include <array>

namespace moira {
namespace {

static_assert(packed_expert_alignment == read_alignment);

class packed_slab_source final : public slab_source {
public:
    packed_slab_source(const expert_packing& packing) : packing_(packing) {}

    result<void> open(const checkpoint& model, const model_weight_names& names, expert_io io);

    std::uint64_t slab_bytes() const noexcept override { return packing_.info.packed_bytes; }
    std::uint64_t scratch_bytes() const noexcept override { return 0; }
    std::uint64_t disk_bytes() const noexcept override { return packing_.source_bytes; }
    result<void> load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) override;

    std::string description() const override {
        const std::string refusal = files_.refusal();
        return refusal.empty() ? choice_ : "buffered: " + refusal;
    }

private:
    expert_packing packing_;
    model_file_reader files_;
    std::vector<std::vector<expert_file_place>> places_; // [layers][experts]; empty for dense layers
    std::string choice_;
};

result<void> packed_slab_source::open(const checkpoint& model, const model_weight_names& names, expert_io io) {
    std::uint64_t experts = 0;
    bool checksummed = false;
    for (const layer_weight_names& layer : names.layers) {
        auto& places = places_.emplace_back();
        for (const ffn_weight_names& expert : layer.experts) {
            const auto* tensor = model.find(expert.packed);
            if (!tensor)
                return fail(errc::invalid_config, "the checkpoint has no tensor " + expert.packed);
            const std::array wanted = {tensor};
            auto plan = plan_expert_read(wanted);
            if (!plan)
                return tl::unexpected(plan.error());
            auto checksums = checked_ranges(model, *plan);
            checksummed = checksummed || !checksums.empty();
            places.push_back({*plan, std::move(checksums), expert.packed});
        }
        experts += layer.experts.size();
    }
    choice_ = open_expert_files(model, io, checked_mul(experts, packing_.source_bytes), checksummed, files_) +
              ", packed already";
    return {};
}

result<void> packed_slab_source::load(expert_id expert, std::span<std::byte> slab, std::span<std::byte>) {
    const auto layer = static_cast<std::size_t>(expert.layer), index = static_cast<std::size_t>(expert.expert);
    if (expert.layer < 0 || expert.expert < 0 || layer >= places_.size() || index >= places_[layer].size())
        return fail(errc::invalid_argument,
                    "no expert " + std::to_string(expert.expert) + " in layer " + std::to_string(expert.layer));
    if (reinterpret_cast<std::uintptr_t>(slab.data()) % packing_.info.alignment != 0 || slab.size() < slab_bytes())
        return fail(errc::invalid_argument, "slab is too small or not aligned");
    return read_expert(files_, places_[layer][index], expert, slab);
}

} // namespace

result<moira_quantization> stored_quantization(const checkpoint& model, expert_precision precision) {
    const stored_layout& layout = *model.expert_layout();
    if (precision == expert_precision::fp8 && layout.quantization.scale_mode == MOIRA_SCALE_NONE)
        return fail(errc::unsupported, model.folder().string() +
                                           ": experts.precision = fp8 rounds while loading, but " +
                                           "these experts are packed already: `moira pack --experts fp8 --layout " +
                                           "native` makes a model of rounded ones");
    return layout.quantization;
}

result<expert_packing> query_stored_packing(const checkpoint& model, const op_provider& provider,
                                            expert_precision precision) {
    const auto quantization = stored_quantization(model, precision);
    if (!quantization)
        return tl::unexpected(quantization.error());
    const stored_layout& layout = *model.expert_layout();
    expert_packing packing;
    packing.source = *quantization;
    packing.desc = expert_pack_desc(layout.n, layout.k, *quantization);
    packing.source_bytes = layout.tensor_bytes();
    const auto info = query_packing(provider, packing.desc, "experts as those of " + model.folder().string());
    if (!info)
        return tl::unexpected(info.error());
    packing.info = *info;
    if (info->layout_id != layout.layout_id || info->packed_bytes != layout.packed_bytes ||
        info->alignment > packed_expert_alignment)
        return fail(errc::unsupported,
                    model.folder().string() + " holds experts in " + layout_name(layout) + ", " +
                        std::to_string(layout.packed_bytes) + " bytes each; " + provider.plugin + " wants layout " +
                        std::to_string(info->layout_id) + ", " + std::to_string(info->packed_bytes) +
                        " bytes each: convert the model with `moira pack SRC DST --layout " + provider.plugin +
                        "`, or choose the plugin that wrote it with --set compute.plugin=" + layout.plugin);
    packing.info.alignment = packed_expert_alignment;
    packing.info.packed_bytes = layout.tensor_bytes();
    packing.info.scratch_bytes = 0;
    return packing;
}

result<std::unique_ptr<slab_source>> make_packed_slab_source(const checkpoint& model, const model_weight_names& names,
                                                             const op_provider& provider, expert_io io,
                                                             expert_precision precision) {
    const auto packing = query_stored_packing(model, provider, precision);
    if (!packing)
        return tl::unexpected(packing.error());
    auto source = std::make_unique<packed_slab_source>(*packing);
    if (auto opened = source->open(model, names, io); !opened)
        return tl::unexpected(opened.error());
    return source;
}

} // namespace moira
