#include "core/synthesize/synthetic_shape.hpp"

namespace moira {

namespace {

synthetic_shape qwen3_30b_a3b() {
    synthetic_shape shape;
    shape.name = "qwen3-30b-a3b";
    shape.family = synthetic_family::qwen3_moe;
    shape.vocabulary = 151'936;
    shape.hidden = 2'048;
    shape.layers = 48;
    shape.context_max = 40'960;
    shape.heads = 32;
    shape.kv_heads = 4;
    shape.head_dim = 128;
    shape.experts = 128;
    shape.top_k = 8;
    shape.expert_inner = 768;
    shape.dense_inner = 6'144;
    shape.rope_theta = 1e6;
    shape.bos = 151'643;
    shape.eos = 151'645;
    return shape;
}

/// No published model: small tensors, 128 experts, quick to make.
synthetic_shape moe_1b() {
    synthetic_shape shape;
    shape.name = "moe-1b";
    shape.family = synthetic_family::qwen3_moe;
    shape.vocabulary = 65'536;
    shape.hidden = 1'024;
    shape.layers = 8;
    shape.context_max = 32'768;
    shape.heads = 16;
    shape.kv_heads = 4;
    shape.head_dim = 128;
    shape.experts = 128;
    shape.top_k = 8;
    shape.expert_inner = 256;
    shape.dense_inner = 2'048;
    shape.rope_theta = 1e6;
    shape.bos = 65'534;
    shape.eos = 65'535;
    return shape;
}

synthetic_shape olmoe_1b_7b() {
    synthetic_shape shape;
    shape.name = "olmoe-1b-7b";
    shape.family = synthetic_family::olmoe;
    shape.vocabulary = 50'304;
    shape.hidden = 2'048;
    shape.layers = 16;
    shape.context_max = 4'096;
    shape.heads = 16;
    shape.kv_heads = 16;
    shape.head_dim = 128;
    shape.experts = 64;
    shape.top_k = 8;
    shape.expert_inner = 1'024;
    shape.norm_epsilon = 1e-5;
    shape.pad = 1;
    shape.eos = 50'279;
    return shape;
}

synthetic_shape deepseek_v2_lite() {
    synthetic_shape shape;
    shape.name = "deepseek-v2-lite";
    shape.family = synthetic_family::deepseek_v2;
    shape.vocabulary = 102'400;
    shape.hidden = 2'048;
    shape.layers = 27;
    shape.context_max = 163'840;
    shape.heads = 16;
    shape.kv_heads = 16;
    shape.head_dim = 128;
    shape.kv_rank = 512;
    shape.rope_dim = 64;
    shape.experts = 64;
    shape.top_k = 6;
    shape.expert_inner = 1'408;
    shape.shared_experts = 2;
    shape.dense_inner = 10'944;
    shape.dense_layers = 1;
    shape.bos = 100'000;
    shape.eos = 100'001;
    return shape;
}

/// No published model: the attention of DeepSeek-V2-Lite in a model of DeepSeek-V3's kind, with small experts.
synthetic_shape mla_1b() {
    synthetic_shape shape;
    shape.name = "mla-1b";
    shape.family = synthetic_family::deepseek_v3;
    shape.vocabulary = 65'536;
    shape.hidden = 2'048;
    shape.layers = 8;
    shape.context_max = 163'840;
    shape.heads = 16;
    shape.kv_heads = 16;
    shape.head_dim = 128;
    shape.kv_rank = 512;
    shape.rope_dim = 64;
    shape.experts = 64;
    shape.top_k = 6;
    shape.expert_inner = 256;
    shape.shared_experts = 1;
    shape.dense_inner = 4'096;
    shape.dense_layers = 1;
    shape.bos = 65'534;
    shape.eos = 65'535;
    return shape;
}

synthetic_shape gpt_oss_20b() {
    synthetic_shape shape;
    shape.name = "gpt-oss-20b";
    shape.family = synthetic_family::gpt_oss;
    shape.vocabulary = 201'088;
    shape.hidden = 2'880;
    shape.layers = 24;
    shape.context_max = 131'072;
    shape.heads = 64;
    shape.kv_heads = 8;
    shape.head_dim = 64;
    shape.experts = 32;
    shape.top_k = 4;
    shape.expert_inner = 2'880;
    shape.window = 128;
    shape.norm_epsilon = 1e-5;
    shape.rope_theta = 150'000.0;
    shape.pad = 199'999;
    shape.eos = 200'002;
    return shape;
}

/// No published model: plays recorded routing of gpt-oss-20b in an architecture that this build runs. As many layers
/// and experts, each of 13.3 MB in BF16, what one of gpt-oss-20b takes as published (3 x 2,880 x 2,880 weights of 4.25
/// bits: 13.2 MB). Both widths are multiples of FP8's blocks of 128; little else beside experts, so that caches are
/// measured.
synthetic_shape gpt_oss_stand_in() {
    synthetic_shape shape;
    shape.name = "gpt-oss-stand-in";
    shape.family = synthetic_family::qwen3_moe;
    shape.vocabulary = 8'192;
    shape.hidden = 1'920;
    shape.layers = 24;
    shape.context_max = 32'768;
    shape.heads = 16;
    shape.kv_heads = 4;
    shape.head_dim = 64;
    shape.experts = 32;
    shape.top_k = 4;
    shape.expert_inner = 1'152;
    shape.dense_inner = 3'840;
    shape.rope_theta = 150'000.0;
    shape.bos = 8'190;
    shape.eos = 8'191;
    return shape;
}

} // namespace

const std::vector<synthetic_shape>& synthetic_shapes() {
    static const std::vector<synthetic_shape> shapes{qwen3_30b_a3b(), olmoe_1b_7b(), deepseek_v2_lite(), gpt_oss_20b(),
                                                     moe_1b(),        mla_1b(),      gpt_oss_stand_in()};
    return shapes;
}

const synthetic_shape* find_synthetic_shape(std::string_view name) {
    for (const auto& shape : synthetic_shapes())
        if (shape.name == name)
            return &shape;
    return nullptr;
}

std::string synthetic_shape_names() {
    std::string names;
    for (const auto& shape : synthetic_shapes())
        names += (names.empty() ? "" : ", ") + shape.name;
    return names;
}

std::string_view model_type_of(synthetic_family family) noexcept {
    switch (family) {
    case synthetic_family::qwen3_moe:
        return "qwen3_moe";
    case synthetic_family::olmoe:
        return "olmoe";
    case synthetic_family::deepseek_v2:
        return "deepseek_v2";
    case synthetic_family::deepseek_v3:
        return "deepseek_v3";
    case synthetic_family::gpt_oss:
        return "gpt_oss";
    }
    return "";
}

} // namespace moira
