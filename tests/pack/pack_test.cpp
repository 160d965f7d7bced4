#include "core/model/checkpoint_weight.hpp"
#include "core/pack/coactivation_order.hpp"
#include "tests/execute/test_engine.hpp"
#include "tests/pack/packed_folder.hpp"

#include <doctest/doctest.h>
#include <fstream>
#include <nlohmann/json.hpp>

using namespace moira;
namespace fs = std::filesystem;

namespace {

checkpoint opened(const fs::path& folder) {
    auto model = checkpoint::open(folder);
    REQUIRE_MESSAGE(model, model.error().message);
    return std::move(*model);
}

std::vector<std::byte> bytes_of(const checkpoint& model, const tensor_location& tensor) {
    std::vector<std::byte> bytes(tensor.bytes);
    const auto read = model.read(tensor, bytes);
    REQUIRE_MESSAGE(read, read.error().message);
    return bytes;
}

nlohmann::json json_of(const fs::path& file) {
    const auto text = read_text_file(file, 10'000'000);
    REQUIRE(text);
    return nlohmann::json::parse(*text);
}

} // namespace

TEST_CASE("a packed model has the same tensors, bit for bit, and the files beside them") {
    for (const std::string name : {"deepseek_v3", "olmoe", "qwen3_moe"}) {
        CAPTURE(name);
        const temporary_folder folder(quick_place());
        const auto target = folder.path() / "packed";
        const auto made = pack_well(request_for(small_model(name), target));
        CHECK(made.shards > 1);
        CHECK_FALSE(made.max_relative_error);
        const auto source = opened(small_model(name)), packed = opened(target);
        REQUIRE(packed.tensors().size() == source.tensors().size());
        for (const auto& [tensor_name, tensor] : source.tensors()) {
            const auto* found = packed.find(tensor_name);
            REQUIRE(found);
            CHECK(found->type == tensor.type);
            CHECK(found->shape == tensor.shape);
            CHECK(bytes_of(packed, *found) == bytes_of(source, tensor));
        }
        CHECK(packed.notices() == source.notices());
        CHECK(packed.tensor_bytes_total() == source.tensor_bytes_total());
        std::uint64_t bytes = 0;
        for (std::size_t file = 0; file < packed.files().size(); ++file)
            bytes += packed.file_bytes(static_cast<std::uint32_t>(file));
        CHECK(made.bytes_after == bytes);
        const auto contents = contents_of(target), before = contents_of(small_model(name));
        CHECK(contents.at("config.json") == before.at("config.json"));
        CHECK(contents.at("generation_config.json") == before.at("generation_config.json"));
        CHECK_FALSE(contents.contains("golden.safetensors"));
        CHECK_FALSE(fs::exists(target.string() + ".part"));
        CHECK_FALSE(fs::exists(target.string() + ".pack-journal"));
    }
}

TEST_CASE("a packed model computes the same logits, rounded or not") {
    const auto ids = some_tokens(20);
    for (const std::string name : {"deepseek_v3", "olmoe", "qwen3_moe"})
        for (const auto precision : {packed_precision::keep, packed_precision::fp8}) {
            CAPTURE(name);
            const temporary_folder folder(quick_place());
            const auto made = pack_well(request_for(small_model(name), folder.path() / "packed", precision));
            const bool rounds = precision == packed_precision::fp8;
            test_engine::wanted how;
            const auto packed = test_engine::required(folder.path() / "packed", how);
            how.options.precision = rounds ? expert_precision::fp8 : expert_precision::keep;
            const auto source = test_engine::required(small_model(name), how);
            const auto expected = logits_of(*source.model, ids, 20), found = logits_of(*packed.model, ids, 20);
            REQUIRE_MESSAGE(expected, expected.error().message);
            REQUIRE_MESSAGE(found, found.error().message);
            CHECK(same_bits(*found, *expected));
            CHECK(packed.model->numerics_id() == source.model->numerics_id());
            CHECK(packed.model->lossy() == source.model->lossy());
            CHECK(packed.model->lossy().size() == (rounds ? 1 : 0));
            CHECK(made.max_relative_error.has_value() == rounds);
            if (rounds) {
                CHECK(*made.max_relative_error > 0.01);
                CHECK(*made.max_relative_error <= 1.0 / 28 + 1e-6);
                const auto config = json_of(folder.path() / "packed" / "config.json");
                CHECK(config["moira_pack"]["quantized_from"] == "BF16");
                CHECK(config["moira_pack"]["max_relative_error"] == *made.max_relative_error);
                CHECK(config["quantization_config"]["quant_method"] == "fp8");
                CHECK(config["hidden_size"] == json_of(small_model(name) / "config.json")["hidden_size"]);
            }
        }
}

TEST_CASE("shared experts, dense layers and routers keep their precision when experts are rounded") {
    const temporary_folder folder(quick_place());
    pack_well(request_for(small_model(), folder.path() / "packed", packed_precision::fp8));
    const auto packed = opened(folder.path() / "packed");
    for (const auto& [name, tensor] : packed.tensors())
        CHECK((tensor.type == tensor_type::f8_e4m3) ==
              (name.find(".mlp.experts.") != std::string::npos && name.ends_with("_proj.weight")));
    const auto modules =
        json_of(folder.path() / "packed" / "config.json")["quantization_config"]["modules_to_not_convert"];
    CHECK(std::find(modules.begin(), modules.end(), "model.layers.1.mlp.shared_experts.up_proj") != modules.end());
    CHECK(std::find(modules.begin(), modules.end(), "lm_head") != modules.end());
}

TEST_CASE("packing a packed model gives the same files, and rounding is said again and done once") {
    const temporary_folder folder(quick_place());
    const auto once = folder.path() / "once", twice = folder.path() / "twice";
    for (const auto precision : {packed_precision::keep, packed_precision::fp8}) {
        pack_well(request_for(small_model(), once, precision));
        const auto again = pack_well(request_for(once, twice, precision));
        CHECK_FALSE(again.max_relative_error);
        CHECK((precision == packed_precision::keep || again.notices.size() == 1));
        const auto packed = opened(twice);
        CHECK(packed.shape().quantized_from == (precision == packed_precision::fp8 ? "BF16" : ""));
        auto first = contents_of(once), second = contents_of(twice);
        if (precision == packed_precision::keep)
            CHECK(first == second);
        fs::remove_all(once);
        fs::remove_all(twice);
    }
}

TEST_CASE("a place that holds something, is the source or lies in it is refused, and nothing is written") {
    const temporary_folder folder(quick_place());
    const auto source = folder.path() / "source";
    fs::copy(small_model(), source);
    const auto before = contents_of(source);
    fs::create_directory(folder.path() / "mine");
    std::ofstream(folder.path() / "mine" / "letters") << "dear";
    std::ofstream(folder.path() / "file") << "text";
    fs::create_directory_symlink(source, folder.path() / "link");
    for (const auto& target :
         {source, source / "packed", source / ".." / "source" / "deep" / "er", folder.path(), folder.path() / "link",
          folder.path() / "link" / "packed", folder.path() / "mine", folder.path() / "file", fs::path()}) {
        CAPTURE(target);
        const auto refused = pack_model(request_for(source, target));
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::invalid_argument);
    }
    CHECK(contents_of(source) == before);
    CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 4);
    CHECK(contents_of(folder.path() / "mine").size() == 1);
}

TEST_CASE("an empty folder, or one that is named with a slash, is a place") {
    const temporary_folder folder(quick_place());
    fs::create_directory(folder.path() / "empty");
    pack_well(request_for(small_model(), folder.path() / "empty" / ""));
    opened(folder.path() / "empty");
    pack_well(request_for(small_model(), folder.path() / "a" / "b" / "c"));
    opened(folder.path() / "a" / "b" / "c");
}

TEST_CASE("infinite weights cannot be rounded and are named") {
    const temporary_folder folder(quick_place());
    const auto source = folder.path() / "source";
    fs::copy(small_model("qwen3_moe"), source);
    const std::string name = "model.layers.1.mlp.experts.3.up_proj.weight";
    const auto place = opened(source).find(name)->offset;
    {
        std::fstream file(source / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(place));
        file.write("\x80\x7f", 2); // infinity in BF16
    }
    const auto refused = pack_model(request_for(source, folder.path() / "packed", packed_precision::fp8));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::corrupt_file);
    CHECK(refused.error().message.find(name) != std::string::npos);
    pack_well(request_for(source, folder.path() / "kept"));
}

TEST_CASE("with a recording, experts that were chosen together are neighbours in the file and answers stay the same") {
    const temporary_folder folder(quick_place());
    route_trace trace{.layers = 2, .experts = 16, .top_k = 2, .layer_numbers = {0, 2}};
    route_sequence sequence{.tokens = 30};
    for (std::uint16_t token = 0; token < 30; ++token)
        for (const std::uint16_t first : {token % 8, token % 4}) // expert e goes with e + 8, or e + 4
            sequence.ids.insert(sequence.ids.end(), {first, static_cast<std::uint16_t>(first + (token % 2 ? 8 : 4))});
    sequence.weights.assign(sequence.ids.size(), 0.5F);
    trace.sequences.push_back(sequence);
    auto request = request_for(small_model("olmoe"), folder.path() / "packed");
    request.routes = &trace;
    request.shard_bytes_max = 4'000'000'000;
    pack_well(request);

    const auto packed = opened(folder.path() / "packed");
    const auto orders = coactivation_orders(trace, packed);
    REQUIRE(orders);
    const auto names = weight_names(packed.shape());
    for (std::size_t layer = 0; layer < names.layers.size(); ++layer) {
        auto order = (*orders)[layer];
        CHECK(order.empty() == (layer == 1)); // not recorded: by number
        for (std::uint32_t expert = 0; order.size() < 16; ++expert)
            order.push_back(expert);
        std::uint64_t before = 0;
        for (const auto expert : order) {
            const auto place = packed.find(names.layers[layer].experts[expert].gate)->offset;
            CHECK(place > before);
            before = place;
        }
    }
    const auto ids = some_tokens(20);
    const auto same = logits_of(*test_engine::required(folder.path() / "packed", {}).model, ids, 20);
    CHECK(same_bits(*same, *logits_of(*test_engine::required(small_model("olmoe"), {}).model, ids, 20)));
}

TEST_CASE("a recording of another model is refused before anything is written") {
    const temporary_folder folder(quick_place());
    auto request = request_for(small_model(), folder.path() / "packed"); // its first layer is dense
    for (route_trace trace : {route_trace{.layers = 1, .experts = 8, .top_k = 1, .layer_numbers = {1}},
                              route_trace{.layers = 1, .experts = 16, .top_k = 1, .layer_numbers = {0}},
                              route_trace{.layers = 1, .experts = 16, .top_k = 1, .layer_numbers = {99}},
                              route_trace{.layers = 2, .experts = 16, .top_k = 1, .layer_numbers = {1}},
                              route_trace{.layers = 1,
                              .experts = 16,
                              .top_k = 1,
                              .layer_numbers = {1},
                              .sequences = {{.tokens = 1, .ids = {16}, .weights = {1.0F}}}}}) {
        request.routes = &trace;
        const auto refused = pack_model(request);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::invalid_argument);
    }
    CHECK(fs::is_empty(folder.path()));
}
