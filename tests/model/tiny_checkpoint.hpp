#pragma once

#include "core/model/architectures/architecture.hpp"
#include "tests/model/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <functional>
#include <nlohmann/json.hpp>

namespace moira {

/// A checkpoint folder made from a configuration: every tensor that it needs, filled with zeros, in BF16. Tests spoil
/// `tensors` before writing.
class tiny_checkpoint {
public:
    struct tensor {
        std::string name;
        tensor_type type = tensor_type::bf16;
        std::vector<std::int64_t> shape;
    };

    explicit tiny_checkpoint(nlohmann::json with_config) : config(std::move(with_config)) {
        const auto shape = read_model_config(config.dump(), "", "test");
        REQUIRE_MESSAGE(shape, shape.error().message);
        const auto& described = *find_architecture(shape->architecture);
        weight_list weights;
        model_weight_names outer;
        described.outer_weights(*shape, outer, weights);
        for (std::int32_t layer = 0; layer < shape->layers; ++layer) {
            layer_weight_names names;
            described.layer_weights(*shape, layer, names, weights);
        }
        for (std::int32_t module = 0; module < shape->mtp_layers; ++module) {
            mtp_weight_names names;
            layer_weight_names block;
            described.mtp_weights(*shape, module, names, block, weights);
        }
        for (const auto& expected : weights.tensors())
            tensors.push_back({expected.name, tensor_type::bf16, expected.shape});
    }

    tensor& find(std::string_view name) {
        for (auto& candidate : tensors)
            if (candidate.name == name)
                return candidate;
        FAIL("no tensor ", name);
        return tensors.front();
    }

    void erase(std::string_view name) {
        REQUIRE(std::erase_if(tensors, [&](const tensor& t) { return t.name == name; }) == 1);
    }

    void write_config() const { folder.write("config.json", config.dump()); }

    /// Writes the chosen tensors into one file.
    void write_shard(const std::string& file, const std::function<bool(const tensor&)>& chosen) const {
        std::vector<tensor_to_write> written;
        for (const auto& t : tensors) {
            if (!chosen(t))
                continue;
            std::size_t bytes = tensor_type_bytes(t.type);
            for (const auto dimension : t.shape)
                bytes *= static_cast<std::size_t>(dimension);
            REQUIRE(bytes <= zeros_.size());
            written.push_back({t.name, t.type, t.shape, std::span(zeros_).first(bytes)});
        }
        REQUIRE(write_safetensors(folder.path() / file, written));
    }

    result<checkpoint> open() const {
        write_config();
        write_shard("model.safetensors", [](const tensor&) { return true; });
        return checkpoint::open(folder.path());
    }

    nlohmann::json config;
    std::vector<tensor> tensors;
    temporary_folder folder;

private:
    std::vector<std::byte> zeros_ = std::vector<std::byte>(4096);
};

} // namespace moira
