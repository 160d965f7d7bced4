#include "core/pack/packed_texts.hpp"

#include "core/model/bounded_json.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/content_hash.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

namespace moira {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view index_name = "model.safetensors.index.json";
constexpr std::string_view templates_folder = "additional_chat_templates";

/// Weights in any form, whole or in parts: a packed folder holds one form only.
bool holds_weights(const fs::path& file) {
    constexpr std::array endings = {".safetensors", ".bin",     ".pt",   ".pth",  ".gguf",
                                    ".h5",          ".msgpack", ".onnx", ".ckpt", ".npz"};
    return std::find(endings.begin(), endings.end(), file.extension().string()) != endings.end() ||
           file.filename() == index_name;
}

/// Names of modules ("model.layers.0.self_attn.q_proj") that keep their precision.
std::vector<std::string> unrounded_modules(const pack_plan& plan) {
    constexpr std::string_view ending = ".weight";
    std::set<std::string> modules;
    for (const auto& shard : plan.shards)
        for (const auto& unit : shard.units) {
            const auto& tensor = shard.tensors[unit.first];
            if (!unit.expert && tensor.shape.size() == 2 && tensor.type != tensor_type::f8_e4m3 &&
                tensor.name.ends_with(ending))
                modules.insert(tensor.name.substr(0, tensor.name.size() - ending.size()));
        }
    return {modules.begin(), modules.end()};
}

void tell_rounding(nlohmann::ordered_json& config, const pack_plan& plan, double error_max) {
    auto& quantization = config["quantization_config"];
    if (!quantization.is_object())
        quantization = nlohmann::ordered_json::object();
    quantization["quant_method"] = "fp8";
    quantization["fmt"] = "e4m3";
    quantization["activation_scheme"] = "dynamic";
    quantization["weight_block_size"] = {scale_block, scale_block};
    quantization["modules_to_not_convert"] = unrounded_modules(plan);
    config["moira_pack"] = {{"quantized_from", plan.quantized_from}, {"max_relative_error", error_max}};
}

result<void> add_side_files(const fs::path& root, const fs::path& folder, std::vector<fs::path>& files) {
    std::error_code reason;
    for (const auto& entry : fs::directory_iterator(root / folder, reason)) {
        std::error_code ignored; // a name that leads nowhere does not go along
        const auto name = entry.path().filename();
        if (!entry.is_regular_file(ignored) || name.string().starts_with('.') || holds_weights(name) ||
            entry.file_size(ignored) > side_file_bytes_max)
            continue;
        if (files.size() == side_files_max)
            return fail(errc::io_error, root.string() + " holds more than " + std::to_string(side_files_max) +
                                            " files beside its weights: this is no model folder");
        files.push_back(folder / name);
    }
    if (reason)
        return fail(errc::io_error, (root / folder).string() + " cannot be listed: " + reason.message());
    return {};
}

} // namespace

std::string packed_index_json(const pack_plan& plan, const std::vector<std::uint64_t>& header_hashes) {
    std::uint64_t bytes = 0;
    nlohmann::json files = nlohmann::json::object(), hashes = nlohmann::json::object();
    for (std::size_t index = 0; index < plan.shards.size(); ++index) {
        const auto& shard = plan.shards[index];
        hashes[shard.file_name] = hash_text(header_hashes[index]);
        for (const auto& tensor : shard.tensors) {
            if (tensor.origin == tensor_origin::padding)
                continue;
            bytes += tensor.bytes;
            files[tensor.name] = shard.file_name;
        }
    }
    return nlohmann::json{{"metadata", {{"total_size", bytes}, {std::string(header_checksums_key), std::move(hashes)}}},
                          {"weight_map", std::move(files)}}
               .dump(1, ' ', false, nlohmann::json::error_handler_t::replace) +
           "\n";
}

result<std::string> packed_config_json(std::string_view config_json, const checkpoint& model, const pack_plan& plan,
                                       double error_max) {
    if (plan.quantized_from.empty() && !plan.forms.layout && !model.expert_layout())
        return std::string(config_json);
    const auto where = model.folder().string() + ": config.json";
    if (auto checked = parse_json_object(config_json, where, errc::invalid_config); !checked)
        return tl::unexpected(checked.error());
    // Again, in the order of the file.
    auto config = nlohmann::ordered_json::parse(config_json, nullptr, false);
    if (!plan.quantized_from.empty())
        tell_rounding(config, plan, error_max);
    auto& told = config["moira_pack"];
    if (!told.is_object())
        told = nlohmann::ordered_json::object();
    told.erase("layout");
    if (plan.forms.layout)
        told["layout"] = nlohmann::ordered_json::parse(layout_text(*plan.forms.layout), nullptr, false);
    if (told.empty())
        config.erase("moira_pack");
    return config.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

result<std::vector<fs::path>> side_files(const fs::path& folder) {
    std::vector<fs::path> files;
    if (auto added = add_side_files(folder, {}, files); !added)
        return tl::unexpected(added.error());
    std::error_code ignored;
    if (fs::is_directory(folder / templates_folder, ignored))
        if (auto added = add_side_files(folder, templates_folder, files); !added)
            return tl::unexpected(added.error());
    std::sort(files.begin(), files.end());
    return files;
}

} // namespace moira
