#include "core/model/checkpoint.hpp"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>

using namespace moira;

namespace {

const std::filesystem::path golden = std::filesystem::path(MOIRA_TEST_DATA) / "golden";
const std::filesystem::path demo = std::filesystem::path(MOIRA_SOURCE_DIRECTORY) / "config/models/moira-demo";

/// Every name that weight_names gives is a tensor of the checkpoint.
void check_names_exist(const checkpoint& model) {
    const auto names = weight_names(model.shape());
    CHECK(model.find(names.embedding));
    CHECK(model.find(names.final_norm));
    CHECK(model.find(names.head));
    REQUIRE(names.layers.size() == static_cast<std::size_t>(model.shape().layers));
    for (std::size_t layer = 0; layer < names.layers.size(); ++layer) {
        const auto& weights = names.layers[layer];
        CHECK(model.find(weights.input_norm));
        CHECK(model.find(weights.post_attention_norm));
        CHECK(model.find(weights.attention.o));
        const bool is_moe = model.shape().layer_is_moe[layer];
        CHECK(weights.experts.size() == (is_moe ? static_cast<std::size_t>(model.shape().moe.experts) : 0));
        CHECK(weights.dense.gate.empty() == is_moe);
        CHECK(weights.router.empty() != is_moe);
        for (const auto& expert : weights.experts)
            CHECK((model.find(expert.gate) && model.find(expert.up) && model.find(expert.down)));
    }
}

} // namespace

TEST_CASE("a DeepSeek-V3 checkpoint opens, and a declared but absent prediction layer is a notice") {
    const auto model = checkpoint::open(golden / "deepseek_v3");
    REQUIRE_MESSAGE(model, model.error().message);
    const auto& shape = model->shape();
    CHECK(shape.architecture == "deepseek_v3");
    CHECK(shape.vocabulary == 320);
    CHECK(shape.hidden == 64);
    CHECK(shape.layers == 4);
    CHECK(shape.context_max == 512);
    REQUIRE(shape.mla);
    CHECK(!shape.gqa);
    CHECK(shape.mla->heads == 4);
    CHECK(shape.mla->query_rank == 24);
    CHECK(shape.mla->kv_rank == 32);
    CHECK(shape.mla->key_dim == 16);
    CHECK(shape.mla->rope_dim == 8);
    CHECK(shape.mla->value_dim == 12);
    CHECK(shape.rope.width == 8);
    CHECK(shape.rope.interleaved);
    CHECK(shape.layer_is_moe == std::vector<bool>{false, true, true, true});
    CHECK(shape.dense_inner == 96);
    CHECK(shape.moe.experts == 16);
    CHECK(shape.moe.top_k == 4);
    CHECK(shape.moe.inner == 32);
    CHECK(shape.moe.shared_inner == 32);
    CHECK(shape.moe.groups == 4);
    CHECK(shape.moe.groups_kept == 2);
    CHECK(shape.moe.scoring == router_scoring::sigmoid);
    CHECK(shape.moe.choice_bias);
    CHECK(shape.moe.normalize);
    CHECK(shape.moe.scale == 2.5);
    CHECK(shape.bos == 0);
    CHECK(shape.eos == std::vector<token_id>{1});
    CHECK(shape.mtp_layers == 0);
    CHECK(model->notices().size() == 1);
    CHECK(check_runnable(*model));
    check_names_exist(*model);
}

TEST_CASE("a Qwen3-MoE checkpoint opens with heads wider than hidden / heads") {
    const auto model = checkpoint::open(golden / "qwen3_moe");
    REQUIRE_MESSAGE(model, model.error().message);
    const auto& shape = model->shape();
    REQUIRE(shape.gqa);
    CHECK(!shape.mla);
    CHECK(shape.gqa->heads == 4);
    CHECK(shape.gqa->kv_heads == 2);
    CHECK(shape.gqa->head_dim == 24);
    CHECK(shape.gqa->query_key_norm);
    CHECK(!shape.gqa->bias);
    CHECK(shape.gqa->window == 0);
    CHECK(shape.rope.width == 24);
    CHECK(!shape.rope.interleaved);
    CHECK(shape.rope.theta == 1e6);
    CHECK(shape.layer_is_moe == std::vector<bool>(4, true));
    CHECK(shape.moe.experts == 16);
    CHECK(shape.moe.scoring == router_scoring::softmax);
    CHECK(!shape.moe.choice_bias);
    CHECK(shape.moe.shared_inner == 0);
    CHECK(model->notices().empty());
    CHECK(check_runnable(*model));
    check_names_exist(*model);
}

TEST_CASE("the bundled model opens with its prediction layer and nothing unread") {
    const auto model = checkpoint::open(demo);
    REQUIRE_MESSAGE(model, model.error().message);
    CHECK(model->shape().mtp_layers == 1);
    CHECK(model->notices().empty());
    CHECK(check_runnable(*model));
    check_names_exist(*model);
}

TEST_CASE("reading a tensor gives the bytes of the file, into a buffer of its size only") {
    const auto model = checkpoint::open(golden / "qwen3_moe");
    REQUIRE(model);
    const auto* tensor = model->find("model.norm.weight");
    REQUIRE(tensor);
    CHECK(tensor->bytes == 128);
    CHECK(tensor->elements() == 64);
    std::vector<std::byte> bytes(tensor->bytes);
    REQUIRE(model->read(*tensor, bytes));
    CHECK(std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; }));
    bytes.pop_back();
    CHECK(model->read(*tensor, bytes).error().code == errc::invalid_argument);
}

TEST_CASE("a summary counts experts, dense weights and what one token reads") {
    const auto model = checkpoint::open(golden / "qwen3_moe");
    REQUIRE(model);
    const auto summary = summarize(*model);
    CHECK(summary.architecture == "qwen3_moe");
    CHECK(summary.layers == 4);
    CHECK(summary.experts == 16);
    CHECK(summary.top_k == 4);
    const std::uint64_t expert = 3 * 64 * 32 * 2;
    CHECK(summary.bytes_per_expert == expert);
    CHECK(summary.bytes_total == summary.bytes_dense + 4 * 16 * expert);
    CHECK(summary.bytes_active_per_token == summary.bytes_dense - 319 * 64 * 2 + 4 * 4 * expert);
    CHECK(summary.bytes_by_type == std::map<std::string, std::uint64_t>{{"BF16", summary.bytes_total}});
    CHECK(summary.bytes_total == model->tensor_bytes_total());
}
