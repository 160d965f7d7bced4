#include "core/model/checkpoint.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "tests/model/tiny_checkpoint.hpp"
#include "tests/model/tiny_configs.hpp"

#include <doctest/doctest.h>

using namespace moira;
using nlohmann::json;

namespace {

json with(json config, const char* key, json value) {
    config[key] = std::move(value);
    return config;
}

bool names(const error& found, std::string_view text) {
    return found.message.find(text) != std::string::npos;
}

/// A folder whose two shards hold every second tensor each; the index is the test's to write.
class sharded_checkpoint : public tiny_checkpoint {
public:
    sharded_checkpoint() : tiny_checkpoint(tiny_qwen()) {
        write_config();
        for (const auto& t : tensors)
            index["weight_map"][t.name] = file_of(t);
        for (const std::string file : {"a.safetensors", "b.safetensors"})
            write_shard(file, [&](const tensor& t) { return file_of(t) == file; });
    }

    result<checkpoint> open_index() const {
        folder.write("model.safetensors.index.json", index.dump());
        return checkpoint::open(folder.path());
    }
    errc code() const {
        const auto opened = open_index();
        return opened ? errc::internal : opened.error().code;
    }

    json index;

private:
    static std::string file_of(const tensor& t) { return t.name.size() % 2 ? "a.safetensors" : "b.safetensors"; }
};

} // namespace

TEST_CASE("plain and low-rank queries, biases, tied embeddings and windows have their own tensors") {
    for (const auto& config : {
             tiny_deepseek(),
             with(tiny_deepseek(), "q_lora_rank", nullptr),
             with(tiny_deepseek(), "attention_bias", true),
             with(tiny_deepseek(), "n_shared_experts", 0),
             tiny_qwen(),
             with(tiny_qwen(), "attention_bias", true),
             with(tiny_qwen(), "tie_word_embeddings", true),
             with(tiny_qwen(), "mlp_only_layers", {1}),
         }) {
        tiny_checkpoint made(config);
        const auto model = made.open();
        REQUIRE_MESSAGE(model, model.error().message);
        CHECK(model->notices().empty());
        CHECK(check_runnable(*model));
        const auto found = weight_names(model->shape());
        const auto& attention = found.layers[0].attention;
        const bool biased = config.value("attention_bias", false);
        CHECK(attention.o_bias.empty() != biased);
        CHECK((found.head == found.embedding) == config.value("tie_word_embeddings", false));
        CHECK(attention.kv_a.empty() == (config["model_type"] == "qwen3_moe"));
    }
}

TEST_CASE("a missing tensor and one of another shape are named") {
    const std::string name = "model.layers.1.mlp.experts.3.up_proj.weight";
    tiny_checkpoint missing(tiny_deepseek());
    missing.erase(name);
    const auto without = missing.open();
    REQUIRE_FALSE(without);
    CHECK(without.error().code == errc::invalid_config);
    CHECK(names(without.error(), name));

    tiny_checkpoint other(tiny_deepseek());
    other.find(name).shape = {8, 5};
    const auto turned = other.open();
    REQUIRE_FALSE(turned);
    CHECK(turned.error().code == errc::invalid_config);
    CHECK(names(turned.error(), name));
}

TEST_CASE("a configuration that promises more than the file holds ends at the first missing tensor") {
    tiny_checkpoint made(tiny_qwen());
    made.config["num_experts"] = 16384;
    made.config["num_hidden_layers"] = 16;
    CHECK(made.open().error().code == errc::invalid_config);
}

TEST_CASE("a prediction layer is optional as a whole, its shapes are not") {
    const auto config = with(tiny_deepseek(), "num_nextn_predict_layers", 1);
    tiny_checkpoint complete(config);
    auto model = complete.open();
    REQUIRE(model);
    CHECK(model->shape().mtp_layers == 1);
    CHECK(model->notices().empty());

    tiny_checkpoint partial(config);
    partial.erase("model.layers.2.eh_proj.weight");
    model = partial.open();
    REQUIRE(model);
    CHECK(model->shape().mtp_layers == 0);
    CHECK(model->notices().size() == 2); // the missing layer, and its tensors that nobody reads

    tiny_checkpoint turned(config);
    turned.find("model.layers.2.eh_proj.weight").shape = {16, 8};
    CHECK(turned.open().error().code == errc::invalid_config);
}

TEST_CASE("FP8 weights with their scales count and run") {
    tiny_checkpoint made(with(tiny_qwen(), "quantization_config", {{"weight_block_size", {128, 128}}}));
    const std::string name = "model.layers.0.mlp.experts.0.gate_proj.weight";
    made.find(name).type = tensor_type::f8_e4m3;
    made.tensors.push_back({name + "_scale_inv", tensor_type::f32, {1, 1}});
    const auto model = made.open();
    REQUIRE_MESSAGE(model, model.error().message);
    CHECK(model->notices().empty());
    const auto summary = summarize(*model);
    CHECK(summary.bytes_by_type.at("F8_E4M3") == 5 * 8);
    CHECK(summary.bytes_by_type.at("F32") == 4);
    CHECK(summary.bytes_per_expert == 3 * 5 * 8 * 2);
    CHECK(summary.expert_type == "F8_E4M3");
    CHECK(summary.refusal.empty());
    CHECK(check_runnable(*model));
}

TEST_CASE("FP8 weights whose scales do not fit open but do not run, and the tensor is named") {
    const std::string name = "model.layers.0.mlp.experts.0.gate_proj.weight";
    struct wrong {
        tensor_type weight, scales;
        std::vector<std::int64_t> shape; // empty: no scales
        errc code;
    };
    for (const auto& each : {wrong{tensor_type::f8_e4m3, tensor_type::f32, {}, errc::unsupported},
                             wrong{tensor_type::f8_e4m3, tensor_type::bf16, {1, 1}, errc::unsupported},
                             wrong{tensor_type::f8_e4m3, tensor_type::f32, {1, 2}, errc::invalid_config},
                             wrong{tensor_type::f8_e4m3, tensor_type::f32, {2, 1}, errc::invalid_config},
                             wrong{tensor_type::f8_e4m3, tensor_type::f32, {1}, errc::invalid_config},
                             wrong{tensor_type::f8_e4m3, tensor_type::f32, {1, 1, 1}, errc::invalid_config},
                             wrong{tensor_type::f8_e4m3, tensor_type::f32, {0, 1}, errc::invalid_config},
                             wrong{tensor_type::bf16, tensor_type::f32, {1, 1}, errc::invalid_config},
                             wrong{tensor_type::f8_e5m2, tensor_type::f32, {1, 1}, errc::unsupported},
                             wrong{tensor_type::i8, tensor_type::f32, {1, 1}, errc::unsupported}}) {
        tiny_checkpoint made(tiny_qwen());
        made.find(name).type = each.weight;
        if (!each.shape.empty())
            made.tensors.push_back({name + "_scale_inv", each.scales, each.shape});
        const auto model = made.open();
        REQUIRE_MESSAGE(model, model.error().message);
        const auto runnable = check_runnable(*model);
        REQUIRE_FALSE(runnable);
        CHECK(runnable.error().code == each.code);
        CHECK(summarize(*model).refusal == runnable.error().message);
        CHECK(names(runnable.error(), name));
    }
}

TEST_CASE("FP8 where no kernel reads it, and blocks of another size, do not run") {
    for (const char* name : {"model.norm.weight", "model.embed_tokens.weight"}) {
        tiny_checkpoint made(tiny_qwen());
        auto& tensor = made.find(name);
        tensor.type = tensor_type::f8_e4m3;
        const auto blocks =
            tensor.shape.size() == 2 ? scale_shape(tensor.shape[0], tensor.shape[1]) : std::vector<std::int64_t>{1, 1};
        made.tensors.push_back({scale_name(name), tensor_type::f32, blocks});
        const auto model = made.open();
        REQUIRE(model);
        CHECK(check_runnable(*model).error().code == errc::unsupported);
    }
    tiny_checkpoint made(with(tiny_qwen(), "quantization_config", {{"weight_block_size", {64, 128}}}));
    const std::string name = "model.layers.0.self_attn.q_proj.weight";
    made.find(name).type = tensor_type::f8_e4m3;
    made.tensors.push_back({scale_name(name), tensor_type::f32, {1, 1}});
    const auto model = made.open();
    REQUIRE(model);
    CHECK(check_runnable(*model).error().code == errc::unsupported);
}

TEST_CASE("a scale of no weight is a notice") {
    tiny_checkpoint made(tiny_qwen());
    made.tensors.push_back({"model.layers.0.self_attn.z_proj.weight_scale_inv", tensor_type::f32, {1, 1}});
    const auto model = made.open();
    REQUIRE(model);
    REQUIRE(model->notices().size() == 1);
    CHECK(model->notices().front().find("z_proj") != std::string::npos);
}

TEST_CASE("tensors that nobody reads are a notice") {
    tiny_checkpoint made(tiny_qwen());
    made.tensors.push_back({"model.extra", tensor_type::u8, {3}});
    const auto model = made.open();
    REQUIRE(model);
    REQUIRE(model->notices().size() == 1);
    CHECK(model->notices().front().find("model.extra") != std::string::npos);
}

TEST_CASE("shards open through their index") {
    sharded_checkpoint made;
    const auto model = made.open_index();
    REQUIRE_MESSAGE(model, model.error().message);
    REQUIRE(model->files().size() == 2);
    for (const auto& t : made.tensors) {
        const auto* tensor = model->find(t.name);
        REQUIRE(tensor);
        CHECK(model->files()[tensor->file].filename() == made.index["weight_map"][t.name]);
        std::vector<std::byte> bytes(tensor->bytes, std::byte{1});
        REQUIRE(model->read(*tensor, bytes));
        CHECK(bytes == std::vector<std::byte>(tensor->bytes));
        CHECK(tensor->offset + tensor->bytes <= model->file_bytes(tensor->file));
        CHECK(model->file_descriptor(tensor->file) >= 0);
    }
}

TEST_CASE("an index that leaves its folder, names absent files or misplaces tensors is refused") {
    const sharded_checkpoint intact;
    const auto first = intact.tensors.front().name;
    for (const char* file : {"../a.safetensors", "/etc/passwd", "", ".", "..", "sub/a.safetensors"}) {
        sharded_checkpoint made;
        made.index["weight_map"][first] = file;
        CHECK(made.code() == errc::corrupt_file);
    }
    sharded_checkpoint absent;
    absent.index["weight_map"][first] = "c.safetensors";
    CHECK(absent.code() == errc::not_found);
    sharded_checkpoint misplaced;
    auto& file = misplaced.index["weight_map"][first];
    file = file == "a.safetensors" ? "b.safetensors" : "a.safetensors";
    CHECK(misplaced.code() == errc::corrupt_file);
    sharded_checkpoint invented;
    invented.index["weight_map"]["nowhere"] = "a.safetensors";
    CHECK(invented.code() == errc::corrupt_file);
    for (const auto& index :
         {json(nullptr), json::array(), json({{"weight_map", 1}}), json({{"weight_map", {{"t", 1}}}})}) {
        sharded_checkpoint made;
        made.index = index;
        CHECK(made.code() == errc::corrupt_file);
    }
    sharded_checkpoint empty;
    empty.index["weight_map"] = json::object();
    CHECK(empty.code() == errc::invalid_config);
}

TEST_CASE("a tensor in two shards is corrupt") {
    sharded_checkpoint made;
    made.write_shard("a.safetensors", [](const tiny_checkpoint::tensor&) { return true; });
    CHECK(made.code() == errc::corrupt_file);
}

TEST_CASE("folders that lack something say what") {
    const temporary_folder folder;
    CHECK(checkpoint::open(folder.path() / "absent").error().code == errc::not_found);
    CHECK(checkpoint::open(folder.path()).error().code == errc::not_found);
    folder.write("config.json", tiny_qwen().dump());
    CHECK(checkpoint::open(folder.path()).error().code == errc::not_found);
    folder.write("model.safetensors", "not one");
    CHECK(checkpoint::open(folder.path()).error().code == errc::corrupt_file);
    folder.write("config.json", std::string(5'000'000, ' '));
    CHECK(checkpoint::open(folder.path()).error().code == errc::corrupt_file);
}

TEST_CASE("a file that shrinks after opening is an io error that names the tensor") {
    tiny_checkpoint made(tiny_qwen());
    const auto model = made.open();
    REQUIRE(model);
    const auto* tensor = model->find("model.norm.weight");
    REQUIRE(tensor);
    std::filesystem::resize_file(model->files().front(), 16);
    std::vector<std::byte> bytes(tensor->bytes);
    const auto read = model->read(*tensor, bytes);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == errc::io_error);
    CHECK(names(read.error(), "model.norm.weight"));
}

TEST_CASE("a checkpoint that was moved still reads") {
    tiny_checkpoint made(tiny_qwen());
    auto opened = made.open();
    REQUIRE(opened);
    const checkpoint moved = std::move(*opened);
    const auto* tensor = moved.find("model.norm.weight");
    REQUIRE(tensor);
    std::vector<std::byte> bytes(tensor->bytes);
    CHECK(moved.read(*tensor, bytes));
}
