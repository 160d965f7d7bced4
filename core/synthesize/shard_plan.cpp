#include "core/synthesize/shard_plan.hpp"

#include "core/model/safetensors_prefix.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace moira {

namespace {

std::string shard_name(std::size_t index, std::size_t count) {
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
    return name.data();
}

result<void> finish_shard(planned_shard& shard) {
    // Wide types first: every tensor is aligned to its elements although the format allows no padding.
    std::stable_sort(shard.tensors.begin(), shard.tensors.end(), [](const auto* a, const auto* b) {
        return tensor_type_bytes(a->type) > tensor_type_bytes(b->type);
    });
    std::vector<tensor_entry> entries;
    for (const auto* tensor : shard.tensors)
        entries.push_back({tensor->name, tensor->type, tensor->shape, tensor->bytes()});
    auto prefix = safetensors_prefix(entries, {{"format", "pt"}});
    if (!prefix)
        return tl::unexpected(prefix.error());
    shard.prefix = std::move(*prefix);
    return {};
}

} // namespace

result<std::vector<planned_shard>> plan_shards(const std::vector<synthetic_tensor>& tensors,
                                               std::uint64_t shard_bytes_max) {
    std::vector<planned_shard> shards;
    for (const auto& tensor : tensors) {
        if (shards.empty() || shards.back().data_bytes + tensor.bytes() > shard_bytes_max)
            shards.emplace_back();
        shards.back().tensors.push_back(&tensor);
        shards.back().data_bytes += tensor.bytes();
    }
    for (std::size_t i = 0; i < shards.size(); ++i) {
        shards[i].file_name = shard_name(i, shards.size());
        if (auto finished = finish_shard(shards[i]); !finished)
            return tl::unexpected(finished.error());
    }
    return shards;
}

std::string shard_index_json(const std::vector<planned_shard>& shards) {
    std::uint64_t bytes = 0;
    nlohmann::json files = nlohmann::json::object(); // sorted, and quick to fill
    for (const auto& shard : shards) {
        bytes += shard.data_bytes;
        for (const auto* tensor : shard.tensors)
            files[tensor->name] = shard.file_name;
    }
    return nlohmann::json{{"metadata", {{"total_size", bytes}}}, {"weight_map", std::move(files)}}.dump(1) + "\n";
}

} // namespace moira
