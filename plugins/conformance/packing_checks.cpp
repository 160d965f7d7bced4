#include "plugins/conformance/checks.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace moira {
namespace {

constexpr std::byte guard{0x5a};
constexpr std::size_t guard_bytes = 256;

/// Memory at an address that is a multiple of `alignment` (or, with `skew`, deliberately is not), with guards behind
/// it.
class guarded_memory {
public:
    guarded_memory(std::uint64_t bytes, std::uint64_t alignment, std::size_t skew = 0)
        : bytes_(bytes), memory_(bytes + alignment + skew + guard_bytes, guard) {
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
        begin_ = memory_.data() + (alignment - address % alignment) % alignment + skew;
    }
    std::byte* data() const { return begin_; }
    bool intact() const {
        const std::byte* end = memory_.data() + memory_.size();
        return std::all_of(static_cast<const std::byte*>(begin_ + bytes_), end, [](std::byte b) { return b == guard; });
    }

private:
    std::uint64_t bytes_;
    std::vector<std::byte> memory_;
    std::byte* begin_ = nullptr;
};

struct packing_case {
    std::string name;
    moira_pack_desc desc;
    std::vector<stored_weight> sources;
};

moira_pack_desc make_pack_desc(std::uint32_t kind, std::uint32_t n, std::uint32_t k,
                               const moira_quantization& quantization) {
    moira_pack_desc desc{};
    desc.struct_size = sizeof desc;
    desc.kind = kind;
    desc.n = n;
    desc.k = k;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = quantization;
    return desc;
}

packing_case gemm_case(std::uint32_t n, std::uint32_t k, const moira_quantization& quantization) {
    return {"pack gemm " + type_name(quantization.weight_type) + " " + std::to_string(n) + "x" + std::to_string(k),
            make_pack_desc(MOIRA_PACK_GEMM, n, k, quantization),
            {random_weight(n, quantization, n, k)}};
}

packing_case expert_case(std::uint32_t n, std::uint32_t k, const moira_quantization& quantization) {
    return {"pack expert " + type_name(quantization.weight_type) + " " + std::to_string(n) + "x" + std::to_string(k),
            make_pack_desc(MOIRA_PACK_EXPERT, n, k, quantization),
            {random_weight(n, quantization, n, k), random_weight(n + 1, quantization, n, k),
             random_weight(n + 2, quantization, k, n)}};
}

packing_case mla_case(std::uint32_t heads, std::uint32_t key_dim, std::uint32_t value_dim, std::uint32_t kv_rank,
                      const moira_quantization& quantization) {
    const std::uint32_t n = heads * (key_dim + value_dim);
    packing_case each{"pack mla_kv " + type_name(quantization.weight_type) + " " + std::to_string(heads) +
                          " heads rank " + std::to_string(kv_rank),
                      make_pack_desc(MOIRA_PACK_MLA_KV, n, kv_rank, quantization),
                      {random_weight(n, quantization, n, kv_rank)}};
    each.desc.heads = heads;
    each.desc.key_dim = key_dim;
    each.desc.value_dim = value_dim;
    return each;
}

/// Packs from sources at odd addresses, unpacks, compares.
void check_round_trip(const op_provider& tested, const packing_case& each, check_log& log) {
    const moira_plugin_api& api = *tested.api;
    moira_pack_info info{};
    info.struct_size = sizeof info;
    const moira_status queried = api.pack_query(tested.device, &each.desc, &info);
    if (queried == MOIRA_UNSUPPORTED)
        return log.skip(each.name, "pack", "not supported");
    if (queried != MOIRA_OK || info.packed_bytes == 0 || info.alignment == 0 || info.layout_id == 0)
        return log.fail(each.name, "pack", "pack_query returned " + std::to_string(queried) + " or an empty layout");
    std::vector<guarded_memory> inputs;
    std::vector<guarded_memory> outputs;
    std::array<moira_pack_source, 3> sources{};
    std::array<void*, 3> places{};
    for (std::size_t i = 0; i < each.sources.size(); ++i) {
        const stored_weight& weight = each.sources[i];
        inputs.emplace_back(weight.bytes.size(), 64, 1);
        std::memcpy(inputs.back().data(), weight.bytes.data(), weight.bytes.size());
        sources[i] = {inputs.back().data(), weight.scales.empty() ? nullptr : weight.scales.data(), nullptr};
        outputs.emplace_back(weight.bytes.size(), 64, 1);
        places[i] = outputs.back().data();
    }
    const guarded_memory packed(info.packed_bytes, info.alignment);
    const guarded_memory scratch(info.scratch_bytes, 64);
    const moira_status packing = api.pack(tested.device, &each.desc, sources.data(), packed.data(), scratch.data());
    const moira_status unpacking =
        packing == MOIRA_OK ? api.unpack(tested.device, &each.desc, packed.data(), places.data(), scratch.data())
                            : packing;
    if (unpacking != MOIRA_OK)
        return log.fail(each.name, "pack", "pack or unpack returned " + std::to_string(unpacking));
    bool equal = true;
    bool intact = packed.intact() && scratch.intact();
    for (std::size_t i = 0; i < each.sources.size(); ++i) {
        equal &= std::memcmp(places[i], each.sources[i].bytes.data(), each.sources[i].bytes.size()) == 0;
        intact &= outputs[i].intact();
    }
    log.expect(equal, each.name, "pack", "unpacking gave other bytes than were packed");
    log.expect(intact, each.name, "pack", "bytes behind the stated sizes were written");
}

void check_pack_rejections(const op_provider& tested, check_log& log) {
    const auto refused = [&](const moira_pack_desc& desc, const char* what) {
        moira_pack_info info{};
        info.struct_size = sizeof info;
        const moira_status status = tested.api->pack_query(tested.device, &desc, &info);
        log.expect(status == MOIRA_INVALID_ARGUMENT || status == MOIRA_UNSUPPORTED, "pack_query", "pack",
                   std::string(what) + " was answered with " + std::to_string(status));
    };
    const moira_quantization f32 = plain(MOIRA_TYPE_F32);
    constexpr std::uint32_t absurd = std::numeric_limits<std::uint32_t>::max();
    refused(make_pack_desc(MOIRA_PACK_GEMM, 0, 8, f32), "n = 0");
    refused(make_pack_desc(MOIRA_PACK_GEMM, 8, 0, f32), "k = 0");
    refused(make_pack_desc(MOIRA_PACK_GEMM, absurd, absurd, f32), "absurd n and k");
    refused(make_pack_desc(MOIRA_PACK_EXPERT, absurd, 8, f32), "absurd inner size");
    refused(make_pack_desc(77, 8, 8, f32), "an unknown kind");
    refused(make_pack_desc(MOIRA_PACK_GEMM, 8, 8, plain(77)), "an unknown weight type");
    moira_pack_desc desc = make_pack_desc(MOIRA_PACK_GEMM, 8, 8, f32);
    desc.struct_size = 8;
    refused(desc, "a short struct_size");
    desc = mla_case(2, 3, 4, 5, f32).desc;
    desc.n += 1;
    refused(desc, "n that is not heads * (key_dim + value_dim)");
    desc = mla_case(2, 3, 4, 5, f32).desc;
    desc.heads = 0;
    refused(desc, "no heads");
}

} // namespace

void check_packing(const op_provider& tested, check_log& log) {
    std::vector<packing_case> cases;
    const moira_quantization types[] = {plain(MOIRA_TYPE_F32), plain(MOIRA_TYPE_BF16), plain(MOIRA_TYPE_F16),
                                        block_f8()};
    for (const auto& type : types) {
        cases.push_back(gemm_case(1, 1, type));
        cases.push_back(gemm_case(65, 129, type));
        cases.push_back(gemm_case(64, 128, type));
        cases.push_back(gemm_case(200, 3, type));
        cases.push_back(expert_case(1, 1, type));
        cases.push_back(expert_case(71, 33, type));
        cases.push_back(expert_case(64, 128, type));
        if (type.scale_mode == MOIRA_SCALE_BLOCK) {
            cases.push_back(gemm_case(127, 257, type));
            cases.push_back(gemm_case(257, 127, type));
            cases.push_back(expert_case(130, 129, type));
        }
        if (type.scale_mode == MOIRA_SCALE_NONE)
            cases.push_back(mla_case(3, 17, 19, 37, type));
    }
    for (const packing_case& each : cases)
        check_round_trip(tested, each, log);
    check_pack_rejections(tested, log);
}

} // namespace moira
