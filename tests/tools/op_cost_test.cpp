#include "tools/moira/op_cost.hpp"

#include <cstring>
#include <doctest/doctest.h>

using namespace moira;

namespace {

template <class Desc>
prepared_op op_of(Desc desc, std::uint32_t kind) {
    desc.header.struct_size = sizeof desc;
    desc.header.op = kind;
    prepared_op op;
    op.kind = kind;
    op.desc_bytes.resize(sizeof desc);
    std::memcpy(op.desc_bytes.data(), &desc, sizeof desc);
    return op;
}

moira_quantization plain(std::uint32_t type) {
    return {type, MOIRA_SCALE_NONE, MOIRA_TYPE_F32, 0, 0, MOIRA_ACTIVATION_KEEP};
}

constexpr moira_quantization fp8{MOIRA_TYPE_F8_E4M3,   MOIRA_SCALE_BLOCK, MOIRA_TYPE_F32, 128, 128,
                                 MOIRA_ACTIVATION_KEEP};

} // namespace

TEST_CASE("a weight has the bytes of its type, and those of its scales") {
    CHECK(weight_bytes_of(100, 200, plain(MOIRA_TYPE_BF16)) == 40'000);
    CHECK(weight_bytes_of(100, 200, plain(MOIRA_TYPE_F32)) == 80'000);
    CHECK(weight_bytes_of(129, 256, fp8) == 129 * 256 + 4 * 4); // 2 x 2 blocks
    CHECK(weight_bytes_of(3, 3, plain(MOIRA_TYPE_F4_E2M1)) == 5);
    auto channels = fp8;
    channels.scale_mode = MOIRA_SCALE_CHANNEL;
    CHECK(weight_bytes_of(10, 10, channels) == 100 + 40);
}

TEST_CASE("a product reads its weight once however many rows it has") {
    moira_gemm_desc desc{};
    desc.n = 100;
    desc.k = 200;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = plain(MOIRA_TYPE_BF16);
    const auto op = op_of(desc, MOIRA_OP_GEMM);
    moira_gemm_args args{};
    args.rows = 3;
    const auto cost = cost_of({&op, &args}, {});
    CHECK(cost.bytes == 40'000);
    CHECK(cost.flop == 2 * 3 * 100 * 200);
    CHECK(cost.matrix_product);
    CHECK(cost.bf16_product);
    desc.compute = MOIRA_COMPUTE_F32;
    const auto router = op_of(desc, MOIRA_OP_GEMM);
    CHECK_FALSE(cost_of({&router, &args}, {}).bf16_product);
    CHECK(op_detail(op.desc()) == "100 x 200 bf16");
}

TEST_CASE("experts are read once for each group and computed for each pair") {
    moira_expert_ffn_desc desc{};
    desc.hidden = 64;
    desc.inner = 32;
    desc.experts = 8;
    desc.quantization = plain(MOIRA_TYPE_BF16);
    const auto op = op_of(desc, MOIRA_OP_EXPERT_FFN);
    moira_expert_ffn_args args{};
    args.groups = 5;
    args.pairs = 12;
    const auto cost = cost_of({&op, &args}, {});
    CHECK(cost.bytes == 5 * 3 * 64 * 32 * 2);
    CHECK(cost.flop == 12 * 3 * 2 * 64 * 32);
}

TEST_CASE("attention reads each sequence's cache once and computes for each row") {
    moira_attention_gqa_desc gqa{};
    gqa.heads = 8;
    gqa.kv_heads = 2;
    gqa.head_dim = 16;
    const auto op = op_of(gqa, MOIRA_OP_ATTENTION_GQA);
    moira_attention_args args{};
    args.rows = 2;
    const auto cost = cost_of({&op, &args}, {.row_positions = 101, .kv_positions = 51});
    CHECK(cost.bytes == 51 * 2 * 2 * 16 * 4);
    CHECK(cost.flop == 101 * 8 * 16 * 4);
    CHECK_FALSE(cost.bf16_product);
    gqa.kv_type = MOIRA_TYPE_BF16;
    const auto narrow_op = op_of(gqa, MOIRA_OP_ATTENTION_GQA);
    const auto narrow = cost_of({&narrow_op, &args}, {.row_positions = 101, .kv_positions = 51});
    CHECK(narrow.bytes == cost.bytes / 2);
    CHECK(narrow.flop == cost.flop);
    CHECK(narrow.bf16_product);

    moira_attention_mla_desc mla{};
    mla.heads = 4;
    mla.key_dim = 8;
    mla.value_dim = 6;
    mla.rope_dim = 2;
    mla.kv_rank = 10;
    mla.quantization = plain(MOIRA_TYPE_BF16);
    const auto latent = op_of(mla, MOIRA_OP_ATTENTION_MLA);
    const auto absorbed = cost_of({&latent, &args}, {.row_positions = 101, .kv_positions = 51});
    CHECK(absorbed.bytes == 51 * 12 * 4 + 4 * 14 * 10 * 2);
    CHECK(absorbed.flop == 2 * 2 * 4 * 10 * 14 + 2 * 101 * 4 * 22);
}

TEST_CASE("an op without a weight moves what it reads and writes") {
    moira_rmsnorm_desc desc{};
    desc.width = 16;
    const auto op = op_of(desc, MOIRA_OP_RMSNORM);
    moira_rmsnorm_args args{};
    args.rows = 3;
    args.groups = 2;
    const auto cost = cost_of({&op, &args}, {});
    CHECK(cost.bytes == 3 * 2 * 2 * 16 * 4);
    CHECK(cost.flop == 0);
    CHECK_FALSE(cost.matrix_product);
}
