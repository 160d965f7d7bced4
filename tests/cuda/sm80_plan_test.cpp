// How launches are planned: tiles, splits and workspaces, worked out by hand. What a plan chooses changes no bit of a
// result, so only its own figures show a mistake in it.
#include "kernels/cuda/sm80/attention_plan.hpp"
#include "kernels/cuda/sm80/expert_ffn_plan.hpp"
#include "kernels/cuda/sm80/gemm_plan.hpp"

#include <doctest/doctest.h>

namespace moira {

namespace {

attention_plan gqa_plan(uint32_t heads, uint32_t kv_heads, uint32_t context_max, uint32_t rows) {
    moira_attention_gqa_desc desc{};
    desc.heads = heads;
    desc.kv_heads = kv_heads;
    desc.head_dim = 128;
    desc.context_max = context_max;
    return plan_attention_gqa(desc, rows);
}

attention_plan mla_plan(uint32_t rows) { // DeepSeek-V3
    moira_attention_mla_desc desc{};
    desc.heads = 128;
    desc.key_dim = 128;
    desc.rope_dim = 64;
    desc.kv_rank = 512;
    desc.value_dim = 128;
    desc.context_max = 32768;
    return plan_attention_mla(desc, rows);
}

template <class Shape>
void check_shape(uint32_t threads, uint32_t columns, uint32_t rows, uint32_t shared_bytes) {
    CHECK(Shape::threads == threads);
    CHECK(Shape::columns == columns);
    CHECK(Shape::rows == rows);
    CHECK(Shape::shared_bytes == shared_bytes);
}

} // namespace

TEST_CASE("contexts are cut into at most 32 splits of at least 512 positions, whole tiles") {
    const std::pair<uint32_t, std::pair<uint32_t, uint32_t>> expected[] = {
        {1, {512, 1}},      {512, {512, 1}},    {513, {512, 2}},    {1024, {512, 2}},
        {16384, {512, 32}}, {16385, {544, 31}}, {17408, {544, 32}}, {32768, {1024, 32}}};
    for (const auto& [context, split] : expected) {
        CHECK(gqa_plan(32, 4, context, 1).split_tokens == split.first);
        CHECK(gqa_plan(32, 4, context, 1).splits == split.second);
    }
}

TEST_CASE("heads are taken in sixteens of one KV head") {
    CHECK(gqa_plan(32, 4, 512, 1).head_blocks == 4);
    CHECK(gqa_plan(64, 4, 512, 1).head_blocks == 4);
    CHECK(gqa_plan(68, 4, 512, 1).head_blocks == 8);
    CHECK(gqa_plan(20, 1, 512, 1).head_blocks == 2);
}

TEST_CASE("splits are shared out while whole rows would not fill the device and their sums have room") {
    CHECK(!gqa_plan(32, 4, 512, 1).shared_out);
    CHECK(gqa_plan(32, 4, 513, 1).shared_out);
    CHECK(gqa_plan(32, 4, 32768, 66).shared_out); // 264 blocks
    CHECK(!gqa_plan(32, 4, 32768, 67).shared_out);
    CHECK(mla_plan(7).shared_out); // 8,421,376 bytes per row
    CHECK(!mla_plan(8).shared_out);
    CHECK(gqa_plan(16 * 300, 300, 32768, 1).shared_out); // one row is, however many its heads
}

TEST_CASE("what attention keeps in its workspace lies one behind another") {
    const attention_plan one = gqa_plan(32, 4, 32768, 1);
    CHECK(one.spans == 0);
    CHECK(one.split_maxima == 64);
    CHECK(one.split_sums == 64 + 4096);
    CHECK(one.split_values == 64 + 2 * 4096);
    CHECK(one.bytes_max == 64 + 2 * 4096 + 524288);
    const attention_plan many = gqa_plan(32, 4, 32768, 67); // as much as the 66 that are shared out need
    CHECK(many.split_maxima == 576);
    CHECK(many.bytes_max == 35144256);
    CHECK(gqa_plan(32, 4, 512, 9).bytes_max == 128);
    const attention_plan mla = mla_plan(2);
    CHECK(mla.query == 16842816);
    CHECK(mla.latent == 17104960);
    CHECK(mla.weighted == 17629248);
    CHECK(mla.bytes_max == 18153536);
}

TEST_CASE("products take 8, 32 or 128 rows at a time, by the rows that there are") {
    CHECK(gemm_tile_rows(1) == 8);
    CHECK(gemm_tile_rows(16) == 8);
    CHECK(gemm_tile_rows(17) == 32);
    CHECK(gemm_tile_rows(96) == 32);
    CHECK(gemm_tile_rows(97) == 128);
    CHECK(expert_tile_rows(0, 5) == 8);
    CHECK(expert_tile_rows(4, 51) == 8); // 12 on average
    CHECK(expert_tile_rows(4, 52) == 32);
    CHECK(expert_tile_rows(4, 195) == 32);
    CHECK(expert_tile_rows(4, 196) == 128);
    CHECK(expert_tiles_max(3, 40, 8) == 8);
    CHECK(expert_tiles_max(128, 8, 8) == 9);
}

TEST_CASE("what the expert FFN keeps in its workspace lies one behind another") {
    moira_expert_ffn_desc desc{};
    desc.hidden = 2048;
    desc.inner = 760;
    desc.quantization.weight_type = MOIRA_TYPE_BF16;
    const expert_ffn_plan plan = plan_expert_ffn(desc, 8, 8);
    CHECK(plan.tile_rows == 8);
    CHECK(plan.tiles == 9);
    CHECK(plan.x_width == 2048);
    CHECK(plan.inner_width == 768);
    CHECK(plan.tile_table == 0);
    CHECK(plan.x_rounded == 192);
    CHECK(plan.inner == 192 + 8 * 4096);
    CHECK(plan.bytes == 192 + 8 * 4096 + 8 * 1536);
    CHECK(plan_expert_ffn(desc, 8, 8, 128).tile_rows == 128);
    desc.quantization.weight_type = MOIRA_TYPE_F8_E4M3;
    desc.inner = 700;
    CHECK(plan_expert_ffn(desc, 8, 8).inner_width == 768); // whole stages of 128
}

TEST_CASE("packed matrices have room for whole tiles, and for no more") {
    moira_quantization quantization{};
    quantization.weight_type = MOIRA_TYPE_BF16;
    CHECK(mma_tiles_bytes(quantization, 16, 64) == 2048);
    CHECK(mma_tiles_bytes(quantization, 15, 63) == 2048);
    CHECK(mma_tiles_bytes(quantization, 17, 65) == 4 * 2048);
    quantization.weight_type = MOIRA_TYPE_F8_E4M3;
    CHECK(mma_tiles_bytes(quantization, 16, 128) == 2112); // 2,064, rounded up to 64
}

TEST_CASE("blocks of the products are as wide as their formats leave registers for") {
    constexpr auto bf16 = weight_format::bf16;
    constexpr auto f8 = weight_format::f8_e4m3;
    constexpr auto mxfp4 = weight_format::mxfp4;
    check_shape<expert_shape<bf16, 8, 2>::type>(64, 32, 8, 6 * (4 * 2048 + 8 * 144));
    check_shape<expert_shape<bf16, 8, 1>::type>(64, 64, 8, 6 * (4 * 2048 + 8 * 144));
    check_shape<expert_shape<f8, 32, 2>::type>(128, 64, 32, 4 * (8 * 2064 + 32 * 272));
    check_shape<expert_shape<mxfp4, 32, 1>::type>(128, 128, 32, 4 * (8 * 1088 + 32 * 272));
    check_shape<expert_shape<bf16, 128, 2>::type>(256, 128, 128, 3 * (16 * 2048 + 128 * 144));
    check_shape<expert_shape<bf16, 128, 1>::type>(256, 256, 128, 3 * (16 * 2048 + 128 * 144));
    check_shape<expert_shape<f8, 128, 2>::type>(256, 64, 128, 3 * (8 * 2064 + 128 * 272));
    check_shape<expert_shape<mxfp4, 128, 1>::type>(256, 128, 128, 3 * (8 * 1088 + 128 * 272));
    check_shape<gemm_shape<bf16, 8>::type>(64, 32, 8, 12 * (2 * 2048 + 8 * 144));
    check_shape<gemm_shape<f8, 32>::type>(128, 128, 32, 4 * (8 * 2064 + 32 * 272));
    check_shape<gemm_shape<bf16, 128>::type>(256, 256, 128, 3 * (16 * 2048 + 128 * 144));
    check_shape<gemm_shape<mxfp4, 128>::type>(256, 128, 128, 3 * (8 * 1088 + 128 * 272));
    CHECK(attention_shape<128, 128, false, 4>::shared_bytes ==
          16 * 272 + 4 * 2 * 32 * 272 + 16 * 80 + 16 * 40 * 4 + 3 * 16 * 4);
    CHECK(attention_shape<576, 512, true, 2>::shared_bytes ==
          16 * 1168 + 2 * 32 * 1168 + 16 * 80 + 16 * 40 * 4 + 3 * 16 * 4);
}

} // namespace moira
