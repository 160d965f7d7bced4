#include "tools/moira/packing_speed.hpp"

#include "core/experts/checkpoint_slab_source.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Together more than a core's caches hold, so that packing reads from memory as after a read from disk.
constexpr std::uint64_t source_bytes_wanted = std::uint64_t{64} << 20;
constexpr std::size_t experts_max = 256;
constexpr int passes = 5;

/// One expert's tensors in memory.
struct expert_bytes {
    std::array<std::vector<std::byte>, 3> weights, scales;
    std::array<moira_pack_source, 3> sources() const {
        std::array<moira_pack_source, 3> made{};
        for (std::size_t i = 0; i < made.size(); ++i)
            made[i] = {weights[i].data(), scales[i].empty() ? nullptr : scales[i].data(), nullptr};
        return made;
    }
};

result<expert_bytes> read_expert(const checkpoint& model, const ffn_weight_names& names) {
    expert_bytes made;
    const std::array<const std::string*, 3> tensors{&names.gate, &names.up, &names.down};
    for (std::size_t i = 0; i < tensors.size(); ++i)
        for (const bool scale : {false, true}) {
            const auto* tensor = model.find(*tensors[i] + (scale ? "_scale_inv" : ""));
            if (!tensor)
                continue; // the engine has loaded this model: only scales can be absent
            auto& bytes = scale ? made.scales[i] : made.weights[i];
            bytes.resize(tensor->bytes);
            if (auto read = model.read(*tensor, bytes); !read)
                return tl::unexpected(read.error());
        }
    return made;
}

result<std::vector<expert_bytes>> read_experts(const checkpoint& model, const model_weight_names& names,
                                               std::uint64_t each) {
    std::vector<expert_bytes> experts;
    for (const auto& layer : names.layers)
        for (const auto& expert : layer.experts) {
            if (experts.size() == experts_max || experts.size() * each > source_bytes_wanted)
                return experts;
            auto read = read_expert(model, expert);
            if (!read)
                return tl::unexpected(read.error());
            experts.push_back(std::move(*read));
        }
    return experts;
}

struct release_aligned {
    void operator()(void* memory) const { std::free(memory); }
};

} // namespace

result<packing_speed> measure_packing(const engine& model, const op_provider* provider) {
    packing_speed speed;
    if (!provider || model.model().expert_layout())
        return speed; // nothing is packed
    const auto names = weight_names(model.shape());
    const auto packing = query_expert_packing(model.model(), names, *provider);
    if (!packing)
        return tl::unexpected(packing.error());
    const auto experts = read_experts(model.model(), names, packing->source_bytes);
    if (!experts)
        return tl::unexpected(experts.error());
    const auto alignment = std::max<std::uint64_t>(packing->info.alignment, device_alignment);
    const auto slab_bytes = (packing->info.packed_bytes + alignment - 1) / alignment * alignment;
    const std::unique_ptr<void, release_aligned> slab(std::aligned_alloc(alignment, slab_bytes));
    if (!slab)
        return fail(errc::out_of_memory, "no memory for one packed expert");
    std::vector<std::byte> scratch(packing->info.scratch_bytes);
    speed.expert_bytes = packing->source_bytes;
    for (int pass = 0; pass < passes; ++pass) {
        const auto start = bench_clock::now();
        for (const auto& expert : *experts) {
            const auto sources = expert.sources();
            const auto status =
                provider->api->pack(provider->device, &packing->desc, sources.data(), slab.get(), scratch.data());
            if (status != MOIRA_OK)
                return tl::unexpected(plugin_error(*provider, status, "packing an expert"));
        }
        const std::chrono::duration<double> elapsed = bench_clock::now() - start;
        const auto bytes = static_cast<double>(experts->size() * packing->source_bytes);
        speed.gb_s_one_thread = std::max(speed.gb_s_one_thread, bytes / 1e9 / elapsed.count());
    }
    return speed;
}

} // namespace moira
