#include "core/model/model_shape.hpp"

#include <cmath>
#include <doctest/doctest.h>

using namespace moira;

namespace {

/// DeepSeek-V3's attention.
model_shape latent_shape() {
    model_shape shape;
    shape.mla = mla_shape{128, 1536, 512, 128, 64, 128, false};
    shape.rope.width = 64;
    shape.layer_is_moe = {false, true, true};
    return shape;
}

} // namespace

TEST_CASE("latent attention keeps the latent and one rotary key per token") {
    const auto shape = latent_shape();
    CHECK(shape.query_width() == 128 * (128 + 64));
    CHECK(shape.attention_width() == 128 * 128);
    CHECK(shape.kv_width() == 512 + 64);
    CHECK(shape.moe_layers() == 2);
    CHECK(shape.attention_scale() == doctest::Approx(1.0 / std::sqrt(192.0)).epsilon(1e-12));
}

TEST_CASE("grouped attention keeps keys and values of its groups") {
    model_shape shape;
    gqa_shape gqa;
    gqa.heads = 32;
    gqa.kv_heads = 4;
    gqa.head_dim = 128;
    shape.gqa = gqa;
    CHECK(shape.query_width() == 4096);
    CHECK(shape.attention_width() == 4096);
    CHECK(shape.kv_width() == 2 * 4 * 128);
    CHECK(shape.attention_scale() == doctest::Approx(1.0 / std::sqrt(128.0)).epsilon(1e-12));
}

TEST_CASE("DeepSeek's YaRN puts the squared magnitude on the score") {
    auto shape = latent_shape();
    shape.rope.scaling = rope_shape::scaling_kind::yarn;
    shape.rope.factor = 40.0;
    shape.rope.mscale = shape.rope.mscale_all_dim = 1.0;
    const double magnitude = 0.1 * std::log(40.0) + 1.0;
    CHECK(shape.attention_scale() == doctest::Approx(magnitude * magnitude / std::sqrt(192.0)).epsilon(1e-12));
    shape.rope.mscale_all_dim = 0.0;
    CHECK(shape.attention_scale() == doctest::Approx(1.0 / std::sqrt(192.0)).epsilon(1e-12));
}
