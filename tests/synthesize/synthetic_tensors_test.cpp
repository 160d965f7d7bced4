#include "core/synthesize/synthetic_tensors.hpp"

#include "tests/synthesize/tiny_shapes.hpp"

#include <doctest/doctest.h>
#include <map>
#include <set>

using namespace moira;

namespace {

std::uint64_t parameters(const char* name) {
    std::uint64_t count = 0;
    for (const auto& tensor : synthetic_tensors(*find_synthetic_shape(name), false))
        count += tensor.elements();
    return count;
}

} // namespace

TEST_CASE("shapes have as many parameters as the published models") {
    // As the Hub counts them from the published files.
    CHECK(parameters("qwen3-30b-a3b") == 30'532'122'624);
    CHECK(parameters("olmoe-1b-7b") == 6'919'161'856);
    CHECK(parameters("deepseek-v2-lite") == 15'706'484'224);
    CHECK(parameters("gpt-oss-20b") == 20'914'757'184);
}

TEST_CASE("the stand-in's experts are as many and as large as gpt-oss-20b's, and little lies beside them") {
    const auto& stand_in = *find_synthetic_shape("gpt-oss-stand-in");
    const auto& published = *find_synthetic_shape("gpt-oss-20b");
    CHECK(stand_in.layers == published.layers);
    CHECK(stand_in.experts == published.experts);
    CHECK(stand_in.top_k == published.top_k);
    std::uint64_t of_expert = 0;
    for (const auto& tensor : synthetic_tensors(stand_in, false))
        if (tensor.name.find("layers.0.mlp.experts.0.") != std::string::npos)
            of_expert += tensor.elements();
    const double published_bytes = 3.0 * published.hidden * published.expert_inner * 4.25 / 8; // MXFP4
    CHECK(2.0 * static_cast<double>(of_expert) == doctest::Approx(published_bytes).epsilon(0.01));
    const auto experts = of_expert * static_cast<std::uint64_t>(stand_in.layers) * 32;
    CHECK(experts * 100 > parameters("gpt-oss-stand-in") * 97);
}

TEST_CASE("every name of a model occurs once") {
    for (const auto& shape : synthetic_shapes())
        for (const bool fp8 : {false, true}) {
            std::set<std::string> names;
            const auto tensors = synthetic_tensors(tiny_shape(shape.name.c_str()), fp8);
            for (const auto& tensor : tensors)
                names.insert(tensor.name);
            CHECK(names.size() == tensors.size());
        }
}

TEST_CASE("FP8 takes every linear weight but embedding and routers, each with scales for its blocks") {
    for (const auto& published : synthetic_shapes()) {
        auto shape = tiny_shape(published.name.c_str());
        shape.hidden = 130;
        std::map<std::string, synthetic_tensor> tensors;
        for (auto& tensor : synthetic_tensors(shape, true))
            tensors.emplace(tensor.name, tensor);
        std::size_t quantized = 0;
        for (const auto& tensor : synthetic_tensors(shape, false)) {
            const auto& name = tensor.name;
            const auto ends_with = [&](const char* end) { return name.ends_with(end); };
            const bool plain = tensor.shape.size() == 1 || name == "model.embed_tokens.weight" ||
                               ends_with("mlp.gate.weight") || ends_with("router.weight") || ends_with("_bias");
            CAPTURE(name);
            REQUIRE(tensors.count(name) == 1);
            CHECK(tensors.at(name).shape == tensor.shape);
            CHECK(tensors.at(name).type == (plain ? tensor_type::bf16 : tensor_type::f8_e4m3));
            REQUIRE(tensors.count(name + "_scale_inv") == (plain ? 0 : 1));
            if (plain)
                continue;
            ++quantized;
            auto blocks = tensor.shape;
            for (std::size_t i = blocks.size() - 2; i < blocks.size(); ++i)
                blocks[i] = blocks[i] / 128 + (blocks[i] % 128 != 0);
            CHECK(tensors.at(name + "_scale_inv").shape == blocks);
            CHECK(tensors.at(name + "_scale_inv").type == tensor_type::f32);
        }
        CHECK(quantized > 5);
    }
}
