#include "core/model/checkpoint.hpp"
#include "tests/model/tiny_configs.hpp"

#include <doctest/doctest.h>
#include <limits>

using namespace moira;
using nlohmann::json;

namespace {

model_shape shape_of(const json& config, std::string_view generation = "") {
    const auto shape = read_model_config(config.dump(), generation, "test");
    REQUIRE_MESSAGE(shape, shape.error().message);
    return *shape;
}

errc code_of(const json& config, std::string_view generation = "") {
    const auto shape = read_model_config(config.dump(), generation, "test");
    return shape ? errc::internal : shape.error().code;
}

json with(json config, const char* key, json value) {
    config[key] = std::move(value);
    return config;
}

json without(json config, const char* key) {
    config.erase(key);
    return config;
}

json yarn() {
    return json::parse(R"({"type": "yarn", "factor": 40, "original_max_position_embeddings": 16, "beta_fast": 32,
                           "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.707})");
}

} // namespace

TEST_CASE("OLMoE normalises whole rows, keeps its router's scores, and is refused with clipping") {
    const auto shape = shape_of(tiny_olmoe());
    REQUIRE(shape.gqa);
    CHECK(shape.gqa->query_key_norm);
    CHECK(shape.gqa->row_norm);
    CHECK(shape.gqa->head_dim == 4);
    CHECK(shape.moe.inner == 5);
    CHECK(shape.moe.shared_inner == 0);
    CHECK_FALSE(shape.moe.normalize);
    CHECK(shape.layer_is_moe == std::vector<bool>{true});
    CHECK_FALSE(shape_of(tiny_qwen()).gqa->row_norm);
    CHECK(code_of(with(tiny_olmoe(), "clip_qkv", 8.0)) == errc::unsupported);
}

TEST_CASE("queries are plain where q_lora_rank is null or absent") {
    CHECK(shape_of(tiny_deepseek()).mla->query_rank == 6);
    CHECK(shape_of(with(tiny_deepseek(), "q_lora_rank", nullptr)).mla->query_rank == 0);
    CHECK(shape_of(without(tiny_deepseek(), "q_lora_rank")).mla->query_rank == 0);
}

TEST_CASE("shared experts count together, and may be none") {
    CHECK(shape_of(tiny_deepseek()).moe.shared_inner == 10);
    CHECK(shape_of(with(tiny_deepseek(), "n_shared_experts", 0)).moe.shared_inner == 0);
}

TEST_CASE("first_k_dense_replace and moe_layer_freq say which layers have experts") {
    auto config = with(with(tiny_deepseek(), "num_hidden_layers", 6), "moe_layer_freq", 2);
    CHECK(shape_of(config).layer_is_moe == std::vector<bool>{false, false, true, false, true, false});
    config = with(config, "first_k_dense_replace", 3);
    CHECK(shape_of(config).layer_is_moe == std::vector<bool>{false, false, false, false, true, false});
}

TEST_CASE("decoder_sparse_step and mlp_only_layers say which layers have experts") {
    auto config = with(with(tiny_qwen(), "num_hidden_layers", 6), "decoder_sparse_step", 2);
    CHECK(shape_of(config).layer_is_moe == std::vector<bool>{false, true, false, true, false, true});
    config = with(config, "mlp_only_layers", {3, 4});
    CHECK(shape_of(config).layer_is_moe == std::vector<bool>{false, true, false, false, false, true});
}

TEST_CASE("expert counts are read in the Hub's spelling and in transformers 5's") {
    for (auto [config, key] : {std::pair{tiny_qwen(), "num_experts"}, std::pair{tiny_deepseek(), "n_routed_experts"}}) {
        const auto experts = config[key];
        config = with(without(config, key), "num_local_experts", experts);
        CHECK(shape_of(config).moe.experts == 4);
    }
}

TEST_CASE("absent switches have transformers' defaults") {
    CHECK_FALSE(shape_of(tiny_qwen()).moe.normalize);
    CHECK(shape_of(with(tiny_qwen(), "norm_topk_prob", true)).moe.normalize);
    CHECK(shape_of(without(tiny_deepseek(), "norm_topk_prob")).moe.normalize);
    CHECK(shape_of(tiny_deepseek()).rope.interleaved);
    CHECK_FALSE(shape_of(with(tiny_deepseek(), "rope_interleave", false)).rope.interleaved);
    CHECK(shape_of(without(tiny_qwen(), "head_dim")).gqa->head_dim == 2);
}

TEST_CASE("head_dim of a DeepSeek configuration is ignored") {
    CHECK(shape_of(with(tiny_deepseek(), "head_dim", 777)).rope.width == 2);
}

TEST_CASE("a sliding window counts only where it is used") {
    auto config = with(tiny_qwen(), "sliding_window", 32);
    CHECK(shape_of(config).gqa->window == 0);
    CHECK(shape_of(with(config, "use_sliding_window", true)).gqa->window == 32);
    CHECK(shape_of(with(with(config, "use_sliding_window", true), "sliding_window", nullptr)).gqa->window == 0);
}

TEST_CASE("rotary settings are read in the Hub's spelling and in transformers 5's") {
    const auto hub = shape_of(with(with(tiny_deepseek(), "rope_scaling", yarn()), "rope_theta", 5000));
    auto inside = yarn();
    inside["rope_type"] = "yarn";
    inside.erase("type");
    inside["rope_theta"] = 5000.0;
    const auto five = shape_of(with(without(tiny_deepseek(), "rope_theta"), "rope_parameters", inside));
    for (const auto& rope : {hub.rope, five.rope}) {
        CHECK(rope.scaling == rope_shape::scaling_kind::yarn);
        CHECK(rope.theta == 5000.0);
        CHECK(rope.factor == 40.0);
        CHECK(rope.original_context == 16);
        CHECK(rope.mscale == 1.0);
        CHECK(rope.mscale_all_dim == 0.707);
        CHECK(rope.beta_fast == 32.0);
        CHECK_FALSE(rope.attention_factor);
    }
    CHECK(shape_of(with(tiny_qwen(), "rope_scaling", nullptr)).rope.scaling == rope_shape::scaling_kind::none);
    const json linear = {{"rope_type", "linear"}, {"factor", 4}};
    CHECK(shape_of(with(tiny_qwen(), "rope_scaling", linear)).rope.scaling == rope_shape::scaling_kind::linear);
    const json plain_yarn = {{"rope_type", "yarn"}, {"factor", 4}};
    CHECK(shape_of(with(tiny_qwen(), "rope_scaling", plain_yarn)).rope.original_context == 64);
    CHECK(shape_of(with(tiny_qwen(), "rope_scaling", plain_yarn)).rope.mscale == 0.0);
    const json llama = {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
    CHECK(shape_of(with(tiny_qwen(), "rope_scaling", llama)).rope.scaling == rope_shape::scaling_kind::llama3);
}

TEST_CASE("special tokens come from generation_config.json, else from config.json") {
    CHECK(shape_of(tiny_deepseek()).eos == std::vector<token_id>{1});
    CHECK(shape_of(tiny_deepseek()).bos == 0);
    const auto shape = shape_of(tiny_deepseek(), R"({"eos_token_id": [2, 3], "bos_token_id": 4})");
    CHECK(shape.eos == std::vector<token_id>{2, 3});
    CHECK(shape.bos == 4);
    CHECK(shape_of(tiny_deepseek(), "{}").eos == std::vector<token_id>{1});
    CHECK(shape_of(tiny_qwen()).eos.empty());
    CHECK_FALSE(shape_of(tiny_qwen()).bos);
    CHECK(code_of(tiny_deepseek(), R"({"eos_token_id": 16})") == errc::invalid_config);
    CHECK(code_of(tiny_deepseek(), R"({"eos_token_id": "1"})") == errc::invalid_config);
    CHECK(code_of(tiny_deepseek(), "[]") == errc::invalid_config);
    CHECK(code_of(tiny_deepseek(), "{") == errc::invalid_config);
    CHECK(code_of(with(tiny_qwen(), "eos_token_id", std::vector<int>(1000, 1))) == errc::invalid_config);
}

TEST_CASE("text that is not one JSON object is an invalid configuration") {
    for (const char* text : {"", "{", "[]", "null", "3", "{}{}", "{\"vocab_size\": NaN}", "\xff"})
        CHECK(read_model_config(text, "", "test").error().code == errc::invalid_config);
    CHECK(read_model_config("{\"a\":" + std::string(1'000'000, '['), "", "test").error().code == errc::invalid_config);
}

TEST_CASE("what this build cannot compute is unsupported, not wrong") {
    CHECK(code_of(with(tiny_qwen(), "model_type", "mamba9")) == errc::unsupported);
    CHECK(code_of(with(tiny_qwen(), "hidden_act", "gelu")) == errc::unsupported);
    CHECK(code_of(with(tiny_deepseek(), "scoring_func", "softmax")) == errc::unsupported);
    CHECK(code_of(with(tiny_deepseek(), "topk_method", "greedy")) == errc::unsupported);
    CHECK(code_of(with(tiny_qwen(), "rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}})) == errc::unsupported);
    CHECK(code_of(with(tiny_qwen(), "rope_parameters", {{"partial_rotary_factor", 0.5}})) == errc::unsupported);
    CHECK(code_of(without(tiny_qwen(), "model_type")) == errc::invalid_config);
}

TEST_CASE("every size is required, and zero, negative, huge, fractional and foreign values are refused") {
    const auto sizes = {"vocab_size",          "hidden_size",         "num_hidden_layers",    "max_position_embeddings",
                        "num_attention_heads", "num_experts_per_tok", "moe_intermediate_size"};
    for (const auto& config : {tiny_deepseek(), tiny_qwen()})
        for (const char* key : sizes) {
            INFO(key);
            CHECK(code_of(without(config, key)) == errc::invalid_config);
            const auto bad_values = {json(0),
                                     json(-1),
                                     json(std::int64_t{1} << 31),
                                     json((std::int64_t{1} << 32) + 1),
                                     json(std::numeric_limits<std::uint64_t>::max()),
                                     json(std::numeric_limits<std::int64_t>::min()),
                                     json(4.0),
                                     json(1e30),
                                     json("4"),
                                     json(true),
                                     json::array({4}),
                                     json::object(),
                                     json(nullptr)};
            for (const auto& value : bad_values) {
                INFO(value.dump());
                CHECK(code_of(with(config, key, value)) == errc::invalid_config);
            }
        }
    for (const char* key : {"kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_routed_experts",
                            "intermediate_size"}) {
        INFO(key);
        CHECK(code_of(without(tiny_deepseek(), key)) == errc::invalid_config);
        CHECK(code_of(with(tiny_deepseek(), key, 1 << 30)) == errc::invalid_config);
    }
}

TEST_CASE("dimensions that contradict each other are refused") {
    CHECK(code_of(with(tiny_deepseek(), "num_experts_per_tok", 5)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "n_group", 3)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "topk_group", 3)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "num_experts_per_tok", 3)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "n_group", 4)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "qk_rope_head_dim", 3)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "first_k_dense_replace", 2)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "rope_theta", 1.0)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "rms_norm_eps", -1e-6)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "routed_scaling_factor", 0)) == errc::invalid_config);
    CHECK(code_of(with(tiny_deepseek(), "rope_scaling", "yarn")) == errc::invalid_config);
    CHECK(code_of(with(tiny_qwen(), "num_key_value_heads", 3)) == errc::invalid_config);
    CHECK(code_of(with(tiny_qwen(), "head_dim", 5)) == errc::invalid_config);
    CHECK(code_of(with(without(tiny_qwen(), "head_dim"), "num_attention_heads", 16)) == errc::invalid_config);
    CHECK(code_of(with(tiny_qwen(), "mlp_only_layers", {0, 1})) == errc::invalid_config);
    CHECK(code_of(with(without(tiny_qwen(), "intermediate_size"), "mlp_only_layers", {0})) == errc::invalid_config);
    auto many = with(with(tiny_qwen(), "num_experts", 1 << 14), "num_hidden_layers", 1024);
    CHECK(code_of(many) == errc::invalid_config);
}

TEST_CASE("check_shape refuses a shape that no reader made") {
    auto shape = shape_of(tiny_qwen());
    CHECK(check_shape(shape));
    const auto refused = [&](auto&& spoil) {
        auto spoiled = shape;
        spoil(spoiled);
        const auto checked = check_shape(spoiled);
        return !checked && checked.error().code == errc::invalid_config;
    };
    CHECK(refused([](model_shape& s) { s.vocabulary = std::numeric_limits<std::int32_t>::max(); }));
    CHECK(refused([](model_shape& s) { s.layer_is_moe.clear(); }));
    CHECK(refused([](model_shape& s) { s.gqa.reset(); }));
    CHECK(refused([](model_shape& s) { s.mla = mla_shape{}; }));
    CHECK(refused([](model_shape& s) { s.norm_epsilon = std::numeric_limits<double>::quiet_NaN(); }));
    CHECK(refused([](model_shape& s) { s.rope.theta = std::numeric_limits<double>::infinity(); }));
    CHECK(refused([](model_shape& s) { s.moe.scale = std::numeric_limits<double>::quiet_NaN(); }));
    CHECK(refused([](model_shape& s) { s.rope.width = 8; }));
    CHECK(refused([](model_shape& s) { s.moe.groups = 0; }));
    CHECK(refused([](model_shape& s) { s.eos = {-1}; }));
    CHECK(refused([](model_shape& s) { s.mtp_layers = 100; }));
    CHECK(check_shape(model_shape{}).error().code == errc::invalid_config);
}
