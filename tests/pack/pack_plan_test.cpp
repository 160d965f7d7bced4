#include "core/experts/expert_read_plan.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/pack/pack_plan.hpp"
#include "tests/pack/packed_folder.hpp"

#include <doctest/doctest.h>
#include <set>

using namespace moira;

namespace {

checkpoint opened(const std::filesystem::path& folder) {
    auto model = checkpoint::open(folder);
    REQUIRE_MESSAGE(model, model.error().message);
    return std::move(*model);
}

/// Everything that is read of an expert.
std::vector<const tensor_location*> tensors_of(const checkpoint& model, const ffn_weight_names& names) {
    std::vector<const tensor_location*> tensors;
    for (const auto* name : {&names.gate, &names.up, &names.down}) {
        tensors.push_back(model.find(*name));
        REQUIRE(tensors.back() != nullptr);
        if (const auto* scales = model.find(scale_name(*name)))
            tensors.push_back(scales);
    }
    return tensors;
}

void check_layout(const pack_plan& plan, std::uint64_t shard_bytes_max) {
    std::set<std::string> names;
    for (const auto& shard : plan.shards) {
        CHECK(shard.data_begin % expert_alignment == 0);
        CHECK((shard.units.size() == 1 || shard.data_bytes <= shard_bytes_max));
        std::uint64_t end = 0;
        for (const auto& tensor : shard.tensors) {
            CHECK(tensor.offset == end);
            CHECK((tensor.bytes == 0 || tensor.offset % tensor_type_bytes(tensor.type) == 0));
            CHECK(names.insert(tensor.name).second);
            end += tensor.bytes;
        }
        CHECK(end == shard.data_bytes);
        for (const auto& unit : shard.units)
            CHECK((!unit.expert || unit.offset % expert_alignment == 0));
    }
}

} // namespace

TEST_CASE("a plan holds every tensor once, experts adjacent and on borders of 4 KiB") {
    for (const std::string name : {"deepseek_v3", "olmoe", "qwen3_moe"})
        for (const auto experts : {packed_precision::keep, packed_precision::fp8})
            for (const std::uint64_t shard_bytes_max : {1ULL, 50'000ULL, 4'000'000'000ULL}) {
                CAPTURE(name);
                CAPTURE(shard_bytes_max);
                const auto model = opened(small_model(name));
                const auto plan = plan_pack(model, {experts, shard_bytes_max, {}});
                REQUIRE(plan);
                check_layout(*plan, shard_bytes_max);
                std::set<std::string> planned;
                for (const auto& shard : plan->shards)
                    for (const auto& tensor : shard.tensors)
                        if (tensor.origin == tensor_origin::copied || tensor.origin == tensor_origin::rounded)
                            planned.insert(tensor.name);
                CHECK(planned.size() == model.tensors().size());
                CHECK(plan->quantized_from == (experts == packed_precision::fp8 ? "BF16" : ""));
            }
}

TEST_CASE("every expert of a packed model is one read, prediction modules and scales included") {
    for (const auto& source :
         {small_model("deepseek_v3"), small_model("olmoe"), small_model("qwen3_moe"), bundled_model()})
        for (const auto experts : {packed_precision::keep, packed_precision::fp8}) {
            CAPTURE(source);
            const temporary_folder folder(quick_place());
            pack_well(request_for(source, folder.path() / "packed", experts));
            const auto packed = opened(folder.path() / "packed");
            const auto names = weight_names(packed.shape(), packed.shape().mtp_layers);
            std::size_t seen = 0;
            for (const auto& layer : names.layers)
                for (const auto& expert : layer.experts) {
                    const auto tensors = tensors_of(packed, expert);
                    CHECK(tensors.size() == (experts == packed_precision::fp8 ? 6 : 3));
                    std::uint64_t bytes = 0;
                    for (const auto* tensor : tensors)
                        bytes += tensor->bytes;
                    const auto plan = plan_expert_read(tensors);
                    REQUIRE(plan);
                    CHECK(plan->read_count == 1);
                    CHECK(plan->reads[0].offset % expert_alignment == 0);
                    CHECK(plan->reads[0].bytes == bytes); // nothing is read along
                    ++seen;
                }
            const auto modules = static_cast<std::size_t>(packed.shape().moe_layers() + packed.shape().mtp_layers);
            CHECK(seen == modules * static_cast<std::size_t>(packed.shape().moe.experts));
            CHECK(packed.shape().mtp_layers == (source == bundled_model() ? 1 : 0));
        }
}

TEST_CASE("an order moves experts and nothing else") {
    const auto model = opened(small_model("olmoe"));
    pack_wish wish;
    wish.orders = {{}, {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}};
    const auto plan = plan_pack(model, wish);
    REQUIRE(plan);
    std::vector<std::int32_t> layer_0, layer_1;
    for (const auto& unit : plan->shards.front().units)
        if (unit.expert && unit.expert->layer < 2)
            (unit.expert->layer == 0 ? layer_0 : layer_1).push_back(unit.expert->expert);
    CHECK(std::is_sorted(layer_0.begin(), layer_0.end()));
    CHECK(std::is_sorted(layer_1.rbegin(), layer_1.rend()));
    CHECK(plan_fingerprint(*plan, model) != plan_fingerprint(*plan_pack(model, {}), model));
    for (const auto& bad : {std::vector<std::uint32_t>{0, 1}, std::vector<std::uint32_t>(16, 3)}) {
        wish.orders[1] = bad;
        const auto refused = plan_pack(model, wish);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::invalid_argument);
    }
}

TEST_CASE("the bytes before the data are as many for all checksums") {
    const auto model = opened(small_model());
    const auto plan = plan_pack(model, {});
    REQUIRE(plan);
    for (const auto& shard : plan->shards) {
        const std::vector<std::uint64_t> hashes(shard.units.size(), UINT64_MAX);
        const auto prefix = packed_prefix(shard, hashes, *plan);
        REQUIRE(prefix);
        CHECK(prefix->size() == shard.data_begin);
    }
}
