// Packing, gemm and expert_ffn of the CPU plugins, against sums in double.
#include "kernels/float_formats.hpp"
#include "tests/plugins/cpu_plugin_session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sys/mman.h>
#include <unistd.h>

using namespace moira_test;

namespace {

constexpr uint32_t weight_types[] = {MOIRA_TYPE_F32, MOIRA_TYPE_BF16, MOIRA_TYPE_F16, MOIRA_TYPE_F8_E4M3};

moira_pack_desc gemm_pack(const stored_weight& weight, uint32_t n, uint32_t k) {
    moira_pack_desc desc{};
    desc.struct_size = sizeof desc;
    desc.kind = MOIRA_PACK_GEMM;
    desc.n = n;
    desc.k = k;
    desc.quantization = weight.quantization;
    return desc;
}

moira_pack_source source_of(const stored_weight& weight, const float* bias = nullptr) {
    return {weight.bytes.data(), weight.scales.empty() ? nullptr : weight.scales.data(), bias};
}

moira_gemm_desc gemm_desc(const stored_weight& weight, uint32_t n, uint32_t k, uint32_t compute, uint32_t rows_max) {
    auto desc = make_desc<moira_gemm_desc>(MOIRA_OP_GEMM, rows_max);
    desc.n = n;
    desc.k = k;
    desc.compute = compute;
    desc.quantization = weight.quantization;
    return desc;
}

// A product in double, and the sum of the terms' sizes, by which an error is judged.
struct exact_sum {
    double value = 0.0;
    double size = 0.0;
};

exact_sum exact_dot(const float* weight, const float* x, uint32_t k) {
    exact_sum sum;
    for (uint32_t i = 0; i < k; ++i) {
        sum.value += double(weight[i]) * double(x[i]);
        sum.size += std::fabs(double(weight[i]) * double(x[i]));
    }
    return sum;
}

// float32 sums of k terms: k * 2^-24 of their size.
double allowed_error(const exact_sum& sum, uint32_t k) {
    return sum.size * (k * 0x1p-24) + 1e-30;
}

// Whether a plugin rounds activations to BF16 for this product.
bool rounds_activations(const std::string& plugin, uint32_t type, uint32_t compute) {
    return plugin == "cpu_avx512" && compute == MOIRA_COMPUTE_AUTO &&
           (type == MOIRA_TYPE_BF16 || type == MOIRA_TYPE_F8_E4M3);
}

std::vector<float> rounded_to_bf16(std::vector<float> values) {
    for (float& value : values)
        value = moira::bf16_to_float(moira::float_to_bf16(value));
    return values;
}

struct gemm_case {
    uint32_t n;
    uint32_t k;
};
constexpr gemm_case gemm_cases[] = {{1, 1}, {65, 129}, {64, 2}, {130, 257}, {128, 600}};

} // namespace

TEST_CASE("a plugin offers itself only to a processor that can run it") {
    CHECK(probe_plugin("cpu_reference", 0).score == 1);
    CHECK(probe_plugin("cpu_avx2", 0).score == 0);
    CHECK(probe_plugin("cpu_avx2", MOIRA_CPU_AVX2_FMA_F16C).score == 50);
    CHECK(probe_plugin("cpu_avx512", MOIRA_CPU_AVX2_FMA_F16C | MOIRA_CPU_AVX512_F_BW_VL_DQ).score == 0);
    const uint32_t no_vbmi = MOIRA_CPU_AVX2_FMA_F16C | MOIRA_CPU_AVX512_F_BW_VL_DQ | MOIRA_CPU_AVX512_BF16;
    CHECK(probe_plugin("cpu_avx512", no_vbmi).score == 0);
    const uint32_t all = no_vbmi | MOIRA_CPU_AVX512_VBMI;
    CHECK(probe_plugin("cpu_avx512", all).score == 100);
    CHECK(std::string(probe_plugin("cpu_avx512", all).device_class) == "cpu");
}

TEST_CASE("unpacking gives back the bytes that were packed") {
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        for (const uint32_t type : weight_types) {
            for (const gemm_case& shape : gemm_cases) {
                CAPTURE(name);
                CAPTURE(type);
                CAPTURE(shape.n);
                CAPTURE(shape.k);
                const stored_weight weight = random_weight(type, shape.n, shape.k, 7);
                const moira_pack_desc desc = gemm_pack(weight, shape.n, shape.k);
                // A checkpoint's tensors may stand at any byte.
                std::vector<unsigned char> shifted(weight.bytes.size() + 1);
                std::memcpy(shifted.data() + 1, weight.bytes.data(), weight.bytes.size());
                moira_pack_source source = source_of(weight);
                source.weight = shifted.data() + 1;
                const void* packed = session.pack(desc, {source});
                std::vector<unsigned char> back(weight.bytes.size());
                void* places[] = {back.data()};
                REQUIRE(session.api().unpack(session.device(), &desc, packed, places, nullptr) == MOIRA_OK);
                CHECK(back == weight.bytes);
            }
        }
    }
}

TEST_CASE("unpacking gives back experts and absorbed MLA weights") {
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        CAPTURE(name);
        const uint32_t inner = 70, hidden = 33;
        const stored_weight parts[] = {random_weight(MOIRA_TYPE_BF16, inner, hidden, 1),
                                       random_weight(MOIRA_TYPE_BF16, inner, hidden, 2),
                                       random_weight(MOIRA_TYPE_BF16, hidden, inner, 3)};
        moira_pack_desc desc = gemm_pack(parts[0], inner, hidden);
        desc.kind = MOIRA_PACK_EXPERT;
        const void* packed = session.pack(desc, {source_of(parts[0]), source_of(parts[1]), source_of(parts[2])});
        std::vector<unsigned char> back[3];
        for (int part = 0; part < 3; ++part)
            back[part].resize(parts[part].bytes.size());
        void* places[] = {back[0].data(), back[1].data(), back[2].data()};
        REQUIRE(session.api().unpack(session.device(), &desc, packed, places, nullptr) == MOIRA_OK);
        for (int part = 0; part < 3; ++part)
            CHECK(back[part] == parts[part].bytes);

        const uint32_t heads = 3, key_dim = 5, value_dim = 9, kv_rank = 67;
        const stored_weight kv_b = random_weight(MOIRA_TYPE_BF16, heads * (key_dim + value_dim), kv_rank, 4);
        moira_pack_desc mla = gemm_pack(kv_b, heads * (key_dim + value_dim), kv_rank);
        mla.kind = MOIRA_PACK_MLA_KV;
        mla.heads = heads;
        mla.key_dim = key_dim;
        mla.value_dim = value_dim;
        const void* absorbed = session.pack(mla, {source_of(kv_b)});
        std::vector<unsigned char> kv_back(kv_b.bytes.size());
        void* kv_places[] = {kv_back.data()};
        REQUIRE(session.api().unpack(session.device(), &mla, absorbed, kv_places, nullptr) == MOIRA_OK);
        CHECK(kv_back == kv_b.bytes);
    }
}

TEST_CASE("gemm agrees with sums in double for odd shapes, all weight types and both precisions") {
    const uint32_t rows = 8;
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 2);
        for (const uint32_t type : weight_types) {
            for (const gemm_case& shape : gemm_cases) {
                for (const uint32_t compute : {MOIRA_COMPUTE_F32, MOIRA_COMPUTE_AUTO}) {
                    CAPTURE(name);
                    CAPTURE(type);
                    CAPTURE(shape.n);
                    CAPTURE(shape.k);
                    CAPTURE(compute);
                    const stored_weight weight = random_weight(type, shape.n, shape.k, 11);
                    const auto x = random_floats(uint64_t{rows} * shape.k, 12);
                    const auto bias = random_floats(shape.n, 13);
                    const auto before = random_floats(uint64_t{rows} * shape.n, 14);
                    auto out = before;
                    moira_gemm_desc desc = gemm_desc(weight, shape.n, shape.k, compute, rows);
                    desc.has_bias = desc.accumulate = 1;
                    moira_gemm_args args{};
                    args.rows = rows;
                    args.x = x.data();
                    args.x_stride = shape.k;
                    args.weight = session.pack(gemm_pack(weight, shape.n, shape.k), {source_of(weight)});
                    args.bias = bias.data();
                    args.out = out.data();
                    args.out_stride = shape.n;
                    REQUIRE(session.run(desc, args, &moira_gemm_args::workspace) == MOIRA_OK);
                    // Whoever rounds activations must be as close to the products of what was rounded.
                    const auto seen = rounds_activations(name, type, compute) ? rounded_to_bf16(x) : x;
                    double worst = 0.0;
                    for (uint64_t i = 0; i < out.size(); ++i) {
                        exact_sum sum =
                            exact_dot(&weight.values[i % shape.n * shape.k], &seen[i / shape.n * shape.k], shape.k);
                        const double expected = sum.value + double(bias[i % shape.n]) + double(before[i]);
                        sum.size += 3.0;
                        worst = std::max(worst, std::fabs(expected - double(out[i])) / allowed_error(sum, shape.k + 2));
                    }
                    CHECK(worst <= 1.0);
                }
            }
        }
    }
}

TEST_CASE("a row of gemm has the same bits alone, among others and on any team") {
    const uint32_t n = 200, k = 300, rows = 61;
    for (const std::string& name : usable_plugins()) {
        for (const uint32_t type : weight_types) {
            CAPTURE(name);
            CAPTURE(type);
            const stored_weight weight = random_weight(type, n, k, 21);
            const auto x = random_floats(uint64_t{rows} * k, 22);
            std::vector<float> first;
            for (const uint32_t team : {1u, 2u, 3u}) {
                cpu_plugin_session session(name, team);
                const moira_gemm_desc desc = gemm_desc(weight, n, k, MOIRA_COMPUTE_AUTO, rows);
                moira_gemm_args args{};
                args.x_stride = k;
                args.out_stride = n;
                args.weight = session.pack(gemm_pack(weight, n, k), {source_of(weight)});
                for (const uint32_t step : {1u, 2u, 4u, 5u, 7u, rows}) {
                    std::vector<float> out(uint64_t{rows} * n);
                    for (uint32_t row = 0; row < rows; row += step) {
                        args.rows = std::min(step, rows - row);
                        args.x = x.data() + uint64_t{row} * k;
                        args.out = out.data() + uint64_t{row} * n;
                        REQUIRE(session.run(desc, args, &moira_gemm_args::workspace) == MOIRA_OK);
                    }
                    if (first.empty())
                        first = out;
                    CHECK(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)) == 0);
                }
                CHECK((team == 1) == (session.team_runs() == 0));
            }
        }
    }
}

TEST_CASE("every E4M3 number is worth what it says") {
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        for (const uint32_t compute : {MOIRA_COMPUTE_F32, MOIRA_COMPUTE_AUTO}) {
            for (const uint32_t k : {1u, 2u}) { // as a pair's first and as its second
                CAPTURE(name);
                CAPTURE(k);
                stored_weight weight = random_weight(MOIRA_TYPE_F8_E4M3, 256, k, 1);
                std::fill(weight.bytes.begin(), weight.bytes.end(), uint8_t{0});
                for (uint32_t code = 0; code < 256; ++code)
                    weight.bytes[code * k + k - 1] = uint8_t(code);
                weight.scales = {2.0f, 0.5f};
                const float x[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
                const void* packed = session.pack(gemm_pack(weight, 256, k), {source_of(weight)});
                for (const uint32_t rows : {1u, 6u}) {
                    std::vector<float> out(256 * rows);
                    moira_gemm_args args{};
                    args.rows = rows;
                    args.x = x;
                    args.x_stride = k;
                    args.weight = packed;
                    args.out = out.data();
                    args.out_stride = 256;
                    const moira_gemm_desc desc = gemm_desc(weight, 256, k, compute, rows);
                    REQUIRE(session.run(desc, args, &moira_gemm_args::workspace) == MOIRA_OK);
                    uint32_t wrong = 0;
                    for (uint32_t i = 0; i < out.size(); ++i) {
                        const uint32_t code = i % 256;
                        const float value = moira::f8_e4m3_to_float(uint8_t(code)) * weight.scales[code / 128];
                        wrong += std::isnan(value) ? !std::isnan(out[i]) : out[i] != value;
                    }
                    CHECK(wrong == 0);
                }
            }
        }
    }
}

TEST_CASE("blocks of scales may have any length along K") {
    const uint32_t n = 130, rows = 9;
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 2);
        for (const uint32_t block_k : {1u, 7u, 64u, 127u, 200u, 301u}) {
            for (const uint32_t compute : {MOIRA_COMPUTE_F32, MOIRA_COMPUTE_AUTO}) {
                CAPTURE(name);
                CAPTURE(block_k);
                CAPTURE(compute);
                const uint32_t k = 613;
                const stored_weight weight = random_weight(MOIRA_TYPE_F8_E4M3, n, k, 3, block_k);
                const auto x = random_floats(uint64_t{rows} * k, 4);
                const auto seen = rounds_activations(name, MOIRA_TYPE_F8_E4M3, compute) ? rounded_to_bf16(x) : x;
                std::vector<float> out(uint64_t{rows} * n);
                moira_gemm_args args{};
                args.rows = rows;
                args.x = x.data();
                args.x_stride = k;
                const moira_pack_desc pack = gemm_pack(weight, n, k);
                args.weight = session.pack(pack, {source_of(weight)});
                args.out = out.data();
                args.out_stride = n;
                REQUIRE(session.run(gemm_desc(weight, n, k, compute, rows), args, &moira_gemm_args::workspace) ==
                        MOIRA_OK);
                double worst = 0.0;
                for (uint64_t i = 0; i < out.size(); ++i) {
                    const exact_sum sum = exact_dot(&weight.values[i % n * k], &seen[i / n * k], k);
                    worst = std::max(worst, std::fabs(sum.value - double(out[i])) / allowed_error(sum, k));
                }
                CHECK(worst <= 1.0);
                std::vector<unsigned char> back(weight.bytes.size());
                void* places[] = {back.data()};
                REQUIRE(session.api().unpack(session.device(), &pack, args.weight, places, nullptr) == MOIRA_OK);
                CHECK(back == weight.bytes);
            }
        }
    }
}

TEST_CASE("gemm reads nothing behind the last activation") {
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    auto* pages =
        static_cast<char*>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(pages != MAP_FAILED);
    REQUIRE(mprotect(pages + page, page, PROT_NONE) == 0);
    for (const std::string& name : usable_plugins()) {
        cpu_plugin_session session(name, 1);
        for (const uint32_t k : {1u, 17u, 129u}) {
            const stored_weight weight = random_weight(MOIRA_TYPE_BF16, 65, k, 31);
            std::vector<float> out(65, std::numeric_limits<float>::quiet_NaN());
            auto* x = reinterpret_cast<float*>(pages + page) - k;
            std::fill(x, x + k, 1.0f);
            moira_gemm_args args{};
            args.rows = 1;
            args.x = x;
            args.x_stride = k;
            args.out = out.data();
            args.out_stride = 65;
            args.weight = session.pack(gemm_pack(weight, 65, k), {source_of(weight)});
            const moira_gemm_desc desc = gemm_desc(weight, 65, k, MOIRA_COMPUTE_AUTO, 1);
            REQUIRE(session.run(desc, args, &moira_gemm_args::workspace) == MOIRA_OK);
            CHECK(std::isfinite(out[64]));
        }
    }
    munmap(pages, 2 * page);
}

TEST_CASE("a gemm that breaks its contract is refused with a code") {
    cpu_plugin_session session("cpu_reference", 1);
    const stored_weight weight = random_weight(MOIRA_TYPE_F32, 4, 4, 1);
    moira_gemm_desc desc = gemm_desc(weight, 4, 4, MOIRA_COMPUTE_F32, 2);
    float memory[16] = {};
    moira_gemm_args args{};
    args.rows = 3;
    args.x = args.out = memory;
    args.weight = memory;
    CHECK(session.run(desc, args) == MOIRA_INVALID_ARGUMENT);
    args.rows = 1;
    args.weight = nullptr;
    CHECK(session.run(desc, args) == MOIRA_INVALID_ARGUMENT);
    desc.n = 0;
    CHECK(session.run(desc, args) == MOIRA_INVALID_ARGUMENT);
    desc.n = 4;
    desc.quantization.weight_type = MOIRA_TYPE_F4_E2M1;
    CHECK(session.run(desc, args) == MOIRA_UNSUPPORTED);
    char text[MOIRA_TEXT_BYTES] = "";
    session.api().last_error(text, sizeof text);
    CHECK(std::strlen(text) > 0);
    desc.header.struct_size = sizeof desc - 4;
    CHECK(session.run(desc, args) == MOIRA_INVALID_ARGUMENT);
    desc.header.op = MOIRA_OP_COUNT;
    CHECK(session.run(desc, args) == MOIRA_UNSUPPORTED);
}

TEST_CASE("a longer descriptor is taken only when its unknown fields are 0") {
    struct longer {
        moira_rmsnorm_desc known;
        uint64_t unknown;
    } desc{make_desc<moira_rmsnorm_desc>(MOIRA_OP_RMSNORM, 1), 0};
    desc.known.header.struct_size = sizeof desc;
    desc.known.width = 8;
    cpu_plugin_session session("cpu_reference", 1);
    moira_op* op = nullptr;
    void* workspace = nullptr;
    REQUIRE(session.prepare(desc.known.header, &op, &workspace) == MOIRA_OK);
    session.api().op_destroy(op);
    desc.unknown = 1;
    CHECK(session.prepare(desc.known.header, &op, &workspace) == MOIRA_UNSUPPORTED);
}

TEST_CASE("a query answers no in words instead of failing") {
    cpu_plugin_session session("cpu_reference", 1);
    const stored_weight weight = random_weight(MOIRA_TYPE_F32, 4, 4, 1);
    moira_gemm_desc desc = gemm_desc(weight, 4, 4, MOIRA_COMPUTE_F32, 2);
    moira_op_support support{};
    support.struct_size = sizeof support;
    REQUIRE(session.api().op_query(session.device(), &desc.header, &support) == MOIRA_OK);
    CHECK(support.score > 0);
    CHECK(support.row_exact == 1);
    desc.quantization.weight_type = MOIRA_TYPE_F4_E2M1;
    REQUIRE(session.api().op_query(session.device(), &desc.header, &support) == MOIRA_OK);
    CHECK(support.score <= 0);
    CHECK(std::strlen(support.reason) > 0);
}
