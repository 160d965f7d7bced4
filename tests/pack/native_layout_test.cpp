// Models whose experts lie in a plugin's layout: what runs from them, what they turn back into, what is refused.
#include "core/pack/coactivation_order.hpp"
#include "tests/pack/layout_plugins.hpp"

#include <algorithm>
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

/// Few slots, so that experts come and go.
std::vector<float> logits_in_few_slots(const fs::path& folder, const std::string& plugin,
                                       expert_io io = expert_io::automatic) {
    test_engine::wanted how;
    how.plugin = plugin;
    how.options.experts_budget_automatic = false;
    how.options.experts_budget_share = 0.3;
    how.options.io = io;
    const auto model = test_engine::required(folder, how);
    const auto logits = logits_of(*model.model, some_tokens(20), 4);
    REQUIRE_MESSAGE(logits, logits.error().message);
    CHECK(model.model->experts().statistics().evictions > 0);
    return *logits;
}

/// Weight files only; config.json is written anew.
std::map<std::string, std::uint64_t> weights_of(const fs::path& folder) {
    auto contents = contents_of(folder);
    std::erase_if(contents, [](const auto& file) { return !file.first.ends_with(".safetensors"); });
    return contents;
}

/// A pack in one file, in which text is exchanged for text of the same length, in headers and index alike.
struct forged_model {
    layout_plugins plugins{"cpu_reference"};
    temporary_folder folder{quick_place()};
    fs::path path = folder.path() / "packed";

    forged_model() {
        auto request = request_for(small_model("qwen3_moe"), path);
        request.shard_bytes_max = 4'000'000'000;
        request.layout = plugins.host.get();
        pack_well(request);
        exchange("moira_header_checksums", "moira_header_checksumz"); // whoever forges a header forges these too
    }

    void exchange(const std::string& from, const std::string& to, std::size_t behind = 0) const {
        REQUIRE(from.size() == to.size());
        std::size_t found = 0;
        for (const auto& entry : fs::directory_iterator(path)) {
            auto text = *read_text_file(entry.path(), 100'000'000);
            const auto at = text.find(from, behind);
            if (at == std::string::npos)
                continue;
            ++found;
            text.replace(at, from.size(), to);
            std::ofstream(entry.path(), std::ios::binary) << text;
        }
        CHECK(found > 0);
    }

    errc code() const {
        const auto model = checkpoint::open(path);
        return model ? errc::internal : model.error().code;
    }
};

} // namespace

TEST_CASE("a model in a plugin's layout computes the same logits as a plain one, whatever fits") {
    for (const auto& plugin : runnable_plugins())
        for (const std::string name : {"deepseek_v3", "olmoe", "qwen3_moe"})
            for (const auto precision : {packed_precision::keep, packed_precision::fp8}) {
                CAPTURE(plugin);
                CAPTURE(name);
                const layout_plugins plugins(plugin);
                const temporary_folder folder(quick_place());
                auto request = request_for(small_model(name), folder.path() / "plain", precision);
                pack_well(request);
                request.target = folder.path() / "native";
                request.layout = plugins.host.get();
                const auto made = pack_well(request);
                CHECK(made.layout.find(plugin) != std::string::npos);
                const auto expected = logits_in_few_slots(folder.path() / "plain", plugin);
                CHECK(same_bits(logits_in_few_slots(folder.path() / "native", plugin), expected));
                if (precision == packed_precision::keep)
                    CHECK(same_bits(logits_in_few_slots(small_model(name), plugin), expected));
                const auto native = opened(folder.path() / "native"), plain = opened(folder.path() / "plain");
                REQUIRE(native.expert_layout());
                CHECK(native.expert_layout()->plugin == plugin);
                CHECK(native.shape().quantized_from == plain.shape().quantized_from);
                CHECK(native.notices() == plain.notices());
                CHECK(summarize(native).expert_type == summarize(plain).expert_type);
            }
}

TEST_CASE("direct reads go straight into slots and give the same logits") {
    const layout_plugins plugins("cpu_reference");
    const temporary_folder folder(fs::temp_directory_path()); // a disk
    auto request = request_for(small_model(), folder.path() / "native");
    request.layout = plugins.host.get();
    pack_well(request);
    const auto direct = logits_in_few_slots(folder.path() / "native", "cpu_reference", expert_io::direct);
    CHECK(same_bits(direct, logits_in_few_slots(folder.path() / "native", "cpu_reference", expert_io::buffered)));
    CHECK(same_bits(direct, logits_in_few_slots(small_model(), "cpu_reference", expert_io::direct)));
}

TEST_CASE("unpacked again, a model is what packing the original makes, bit for bit") {
    for (const auto& plugin : runnable_plugins())
        for (const std::string name : {"deepseek_v3", "qwen3_moe"})
            for (const auto precision : {packed_precision::keep, packed_precision::fp8}) {
                CAPTURE(plugin);
                CAPTURE(name);
                const layout_plugins plugins(plugin);
                const temporary_folder folder(quick_place());
                auto request = request_for(small_model(name), folder.path() / "plain", precision);
                pack_well(request);
                request = request_for(folder.path() / "plain", folder.path() / "plain_again");
                pack_well(request); // FP8 files of the second pack do not say what they were rounded from
                request.target = folder.path() / "native";
                request.layout = plugins.host.get();
                pack_well(request);
                request = request_for(folder.path() / "native", folder.path() / "back");
                request.source_plugins = plugins.host.get();
                pack_well(request);
                CHECK(weights_of(folder.path() / "back") == weights_of(folder.path() / "plain_again"));
                const auto config_of = [&](const char* pack) {
                    return nlohmann::json::parse(*read_text_file(folder.path() / pack / "config.json", 1'000'000));
                };
                CHECK(config_of("back") == config_of("plain"));
                CHECK(config_of("native")["moira_pack"]["layout"]["plugin"] == plugin);
            }
}

TEST_CASE("a pack in the wanted layout is copied, another one converted, and rounding works from any form") {
    const layout_plugins reference("cpu_reference");
    const temporary_folder folder(quick_place());
    auto request = request_for(small_model(), folder.path() / "native");
    request.layout = reference.host.get();
    pack_well(request);
    request = request_for(folder.path() / "native", folder.path() / "copied");
    request.layout = reference.host.get();
    pack_well(request);
    CHECK(contents_of(folder.path() / "copied") == contents_of(folder.path() / "native"));

    request = request_for(small_model(), folder.path() / "fp8", packed_precision::fp8);
    request.layout = reference.host.get();
    const auto expected = pack_well(request);
    request = request_for(folder.path() / "native", folder.path() / "fp8_later", packed_precision::fp8);
    request.layout = request.source_plugins = reference.host.get();
    const auto later = pack_well(request);
    CHECK(later.max_relative_error == expected.max_relative_error);
    CHECK(weights_of(folder.path() / "fp8_later") == weights_of(folder.path() / "fp8"));

    const auto plugins = runnable_plugins();
    if (plugins.size() < 2)
        return;
    const layout_plugins other(plugins.back());
    request = request_for(small_model(), folder.path() / "other");
    request.layout = other.host.get();
    pack_well(request);
    request = request_for(folder.path() / "native", folder.path() / "converted");
    request.layout = other.host.get();
    request.source_plugins = reference.host.get();
    pack_well(request);
    CHECK(weights_of(folder.path() / "converted") == weights_of(folder.path() / "other"));
    const auto refused = test_engine::open(folder.path() / "native", {.plugin = plugins.back(), .options = {}});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::unsupported);
    for (const std::string word : {"cpu_reference", plugins.back().c_str(), "moira pack"})
        CHECK_MESSAGE(refused.error().message.find(word) != std::string::npos, refused.error().message);
    request = request_for(folder.path() / "native", folder.path() / "wrong");
    request.source_plugins = other.host.get();
    CHECK(pack_model(request).error().code == errc::unsupported);
    request.source_plugins = nullptr;
    CHECK(pack_model(request).error().code == errc::invalid_argument);
}

TEST_CASE("experts of a plugin's layout come in the order of a recording too") {
    const layout_plugins plugins("cpu_reference");
    const temporary_folder folder(quick_place());
    route_trace trace{.layers = 1, .experts = 16, .top_k = 2, .layer_numbers = {1}};
    trace.sequences.push_back({.tokens = 2, .ids = {3, 9, 3, 9}, .weights = {0.5F, 0.5F, 0.5F, 0.5F}});
    auto request = request_for(small_model("olmoe"), folder.path() / "native");
    request.routes = &trace;
    request.layout = plugins.host.get();
    pack_well(request);
    const auto packed = opened(folder.path() / "native");
    const auto* first = packed.find("model.layers.1.mlp.experts.3.packed");
    const auto* second = packed.find("model.layers.1.mlp.experts.9.packed");
    REQUIRE(first);
    REQUIRE(second);
    CHECK(std::max(first->offset, second->offset) - std::min(first->offset, second->offset) == first->bytes);
}

TEST_CASE("experts that are to be rounded while loading must be plain") {
    const layout_plugins plugins("cpu_reference");
    const temporary_folder folder(quick_place());
    auto request = request_for(small_model(), folder.path() / "native");
    request.layout = plugins.host.get();
    pack_well(request);
    test_engine::wanted how;
    how.options.precision = expert_precision::fp8;
    CHECK(test_engine::open(request.target, how).error().code == errc::unsupported);
    request = request_for(small_model(), folder.path() / "fp8", packed_precision::fp8);
    request.layout = plugins.host.get();
    pack_well(request);
    CHECK(test_engine::open(request.target, how)); // FP8 is never rounded again
}

TEST_CASE("a file that lies about the layout of its experts is refused when it is opened") {
    const auto expect = [](errc code, const std::string& from, const std::string& to) {
        CAPTURE(from);
        const forged_model model;
        CHECK(model.code() == errc::internal); // opens
        model.exchange(from, to);
        CHECK(model.code() == code);
    };
    const stored_layout layout = *opened(forged_model().path).expert_layout();
    const auto number = [](const char* key, std::uint64_t value) {
        return "\\\"" + std::string(key) + "\\\":" + std::to_string(value);
    };
    expect(errc::invalid_config, number("n", layout.n), number("n", layout.n + 1));
    expect(errc::invalid_config, number("k", layout.k), number("k", layout.k + 1));
    expect(errc::corrupt_file, number("packed_bytes", layout.packed_bytes),
           number("packed_bytes", layout.packed_bytes + 4096));
    expect(errc::corrupt_file, "moira.expert_layout", "moira.expert_layouz");
    expect(errc::unsupported, "\\\"BF16\\\"", "\\\"BF61\\\"");
    expect(errc::unsupported, number("form", 1), number("form", 2));
    expect(errc::corrupt_file, "\"U8\",\"shape\":[" + std::to_string(layout.tensor_bytes()),
           "\"I8\",\"shape\":[" + std::to_string(layout.tensor_bytes()));
    expect(errc::invalid_config, "layers.1.mlp.experts.3.packed", "layers.1.mlp.experts.3.pakced");
}

TEST_CASE("another layout id, or sizes that are not the plugin's, never reach a kernel") {
    const stored_layout layout = *opened(forged_model().path).expert_layout();
    const forged_model model;
    const auto id = std::to_string(layout.layout_id), other = std::to_string(layout.layout_id + 1);
    model.exchange("layout_id\\\":" + id, "layout_id\\\":" + other);
    const auto refused = test_engine::open(model.path, {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::unsupported);
    CHECK(refused.error().message.find(id) != std::string::npos);
    CHECK(refused.error().message.find(other) != std::string::npos);
    const forged_model shorter; // still as many bytes in the file
    shorter.exchange("packed_bytes\\\":" + std::to_string(layout.packed_bytes),
                     "packed_bytes\\\":" + std::to_string(layout.packed_bytes - 1));
    CHECK(test_engine::open(shorter.path, {}).error().code == errc::unsupported);
}

TEST_CASE("damage of a packed expert is found and named by who runs and by who unpacks, with or without checksums") {
    const std::string name = "model.layers.1.mlp.experts.2.packed"; // somebody chooses it
    for (const bool checksums : {true, false}) {
        const forged_model model;
        if (!checksums)
            model.exchange("moira.checksums", "moira.checksumz");
        const auto place = *opened(model.path).find(name);
        const auto flip = [&](std::uint64_t at) {
            std::fstream file(opened(model.path).files().front(), std::ios::in | std::ios::out | std::ios::binary);
            file.seekg(static_cast<std::streamoff>(at));
            const auto byte = static_cast<char>(file.get());
            file.seekp(static_cast<std::streamoff>(at));
            file.put(static_cast<char>(byte ^ 4));
        };
        flip(place.offset + place.bytes - 1); // behind what the plugin wrote
        auto request = request_for(model.path, model.folder.path() / "back");
        request.source_plugins = model.plugins.host.get();
        const auto refused = pack_model(request);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::corrupt_file);
        CHECK(refused.error().message.find("model.layers.1.mlp.experts.2") != std::string::npos);
        const auto run = logits_of(*test_engine::required(model.path, {}).model, some_tokens(60), 60);
        CHECK(run.has_value() != checksums);
        if (!run) {
            CHECK(run.error().code == errc::corrupt_file);
            for (const std::string word : {"expert 2 of layer 1", name.c_str(), ".safetensors"})
                CHECK_MESSAGE(run.error().message.find(word) != std::string::npos, run.error().message);
        }
    }
}
