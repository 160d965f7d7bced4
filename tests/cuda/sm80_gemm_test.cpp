// gemm for sm_80, executed on the host: against the reference, under every schedule, row-exact.
#include "kernels/op_plan.hpp"
#include "tests/cuda/sm80_on_host.hpp"
#include "tests/cuda/stored_matrix.hpp"

#include <doctest/doctest.h>

namespace moira {

namespace {

constexpr uint32_t case_rows = 131; // more than the widest tile has

struct gemm_case {
    moira_gemm_desc desc{};
    stored_matrix matrix;
    std::vector<float> bias;
    std::vector<float> x; // [case_rows, k + 1]
    std::vector<float> out_before;

    gemm_case(uint32_t type, uint32_t compute, uint32_t n, uint32_t k, bool accumulate)
        : matrix(type, n, k, 70), bias(random_values(n, 71, 1.0f)), x(random_values(case_rows * (k + 1), 72, 1.0f)),
          out_before(random_values(case_rows * n, 73, 1.0f)) {
        desc.header = {sizeof desc, MOIRA_OP_GEMM, case_rows};
        desc.n = n;
        desc.k = k;
        desc.compute = compute;
        desc.accumulate = accumulate;
        desc.has_bias = !accumulate;
        desc.quantization = matrix.quantization;
        if (compute == MOIRA_COMPUTE_AUTO)
            for (float& value : x) // so that products are those of the reference
                value = bf16_to_float(float_to_bf16(value));
        for (uint64_t row = 0; row < case_rows; ++row) // what lies between rows is not read
            x[row * (k + 1) + k] = NAN;
    }

    moira_gemm_args args(uint32_t rows) const {
        moira_gemm_args made{};
        made.rows = rows;
        made.x_stride = desc.k + 1;
        made.out_stride = desc.n;
        return made;
    }
};

std::vector<float> run_case(const gemm_case& test, uint32_t rows, const simt_config& config, uint32_t tile_rows) {
    simt_memory memory;
    const packing_kernels packing = sm80_packing();
    std::vector<unsigned char> packed(packing.matrix_bytes(test.desc.quantization, test.desc.n, test.desc.k));
    packing.pack_matrix(test.desc.quantization, test.desc.n, test.desc.k, test.matrix.bytes.data(), test.desc.k, 1,
                        test.matrix.scales.data(), packed.data());
    moira_gemm_args args = test.args(rows);
    args.weight = memory.copy_of("weight", packed);
    args.x = memory.copy_of("x", std::vector<float>(test.x.begin(), test.x.begin() + rows * args.x_stride));
    args.bias = memory.copy_of("bias", test.bias);
    args.out = memory.copy_of(
        "out", std::vector<float>(test.out_before.begin(), test.out_before.begin() + rows * test.desc.n), false);
    moira_gemm_desc desc = test.desc;
    desc.header.rows_max = rows;
    if (const uint64_t bytes = sm80_gemm_workspace(desc))
        args.workspace = memory.allocate("workspace", bytes);
    const simt_report report = run_sm80_gemm(desc, args, config, memory, tile_rows);
    REQUIRE_MESSAGE(report.clean(), report.text());
    return std::vector<float>(args.out, args.out + rows * desc.n);
}

std::vector<float> reference_case(const gemm_case& test, uint32_t rows) {
    moira_gemm_desc desc = test.desc;
    desc.quantization = plain_f32;
    std::vector<float> out = test.out_before;
    moira_gemm_args args = test.args(rows);
    args.weight = test.matrix.values.data();
    args.x = test.x.data();
    args.bias = test.bias.data();
    args.out = out.data();
    reference_gemm(desc, args, {0, 0, plan_phase(desc.header, &args, 0).units, nullptr, nullptr});
    out.resize(rows * desc.n);
    return out;
}

const std::pair<uint32_t, uint32_t> kinds[] = {
    {MOIRA_TYPE_BF16, MOIRA_COMPUTE_AUTO},    {MOIRA_TYPE_F8_E4M3, MOIRA_COMPUTE_AUTO},
    {MOIRA_TYPE_F4_E2M1, MOIRA_COMPUTE_AUTO}, {MOIRA_TYPE_BF16, MOIRA_COMPUTE_F32},
    {MOIRA_TYPE_F16, MOIRA_COMPUTE_AUTO},     {MOIRA_TYPE_F32, MOIRA_COMPUTE_F32}};

// Sums of exact products in another order.
constexpr double order_error_max = 1e-5;

} // namespace

TEST_CASE("gemm for sm_80 takes K of many stages, and columns that fill their last tile") {
    for (const auto& [type, compute] : kinds) {
        const gemm_case test(type, compute, 48, 1100, false);
        INFO("type ", type, ", compute ", compute);
        CHECK(worst_relative_error(run_case(test, 5, {simt_schedule::random}, 0), reference_case(test, 5), 48) <
              order_error_max);
    }
}

TEST_CASE("gemm for sm_80 takes rows on both sides of every warp's and every block's border") {
    for (const uint32_t type : {MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3}) {
        const gemm_case test(type, MOIRA_COMPUTE_AUTO, 24, 130, false);
        for (const uint32_t rows : {63u, 65u, 128u, 131u}) {
            INFO("type ", type, ", rows ", rows);
            CHECK(worst_relative_error(run_case(test, rows, {simt_schedule::random}, 128), reference_case(test, rows),
                                       24) < order_error_max);
        }
    }
}

TEST_CASE("a row of gemm for sm_80 has the same bits with 1 to 33 rows") {
    for (const auto& [type, compute] : kinds) {
        const gemm_case test(type, compute, 40, 200, false);
        const std::vector<float> all = run_case(test, 33, {}, 0);
        for (const uint32_t rows : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u, 15u, 16u, 17u, 24u, 31u, 32u}) {
            const std::vector<float> out = run_case(test, rows, {}, rows % 5 == 0 ? 128 : 0);
            INFO("type ", type, ", compute ", compute, ", rows ", rows);
            CHECK(std::memcmp(out.data(), all.data(), out.size() * sizeof(float)) == 0);
        }
    }
}

TEST_CASE("gemm for sm_80 agrees with the reference under every schedule and tile size") {
    for (const auto& [type, compute] : kinds)
        for (const bool accumulate : {false, true}) {
            if (accumulate != (type % 2 == 0) && type != MOIRA_TYPE_BF16)
                continue; // both only once: what differs does not depend on the weights
            const gemm_case test(type, compute, 79, 301, accumulate); // ragged and odd
            const std::vector<float> expected = reference_case(test, 13);
            uint32_t turn = accumulate;
            for (const simt_config& config : simt_all_schedules(21)) {
                const uint32_t tile_rows = std::vector<uint32_t>{8, 32, 128}[turn++ % 3];
                INFO("type ", type, ", compute ", compute, ", schedule ", int(config.schedule));
                const std::vector<float> out = run_case(test, 13, config, tile_rows);
                CHECK(worst_relative_error(out, expected, test.desc.n) < order_error_max);
            }
        }
}

TEST_CASE("a row of gemm for sm_80 has the same bits beside 130 others, in whole tiles of every size") {
    for (const uint32_t type : {MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3, MOIRA_TYPE_F4_E2M1}) {
        const gemm_case test(type, MOIRA_COMPUTE_AUTO, 20, 72, false);
        const std::vector<float> few = run_case(test, 3, {}, 0);
        const std::vector<float> all = run_case(test, case_rows, {simt_schedule::random}, 0);
        INFO("type ", type);
        CHECK(worst_relative_error(all, reference_case(test, case_rows), test.desc.n) < order_error_max);
        CHECK(std::memcmp(few.data(), all.data(), few.size() * sizeof(float)) == 0);
        for (const uint32_t tile_rows : {8u, 32u}) {
            const std::vector<float> other = run_case(test, case_rows, {}, tile_rows);
            CHECK(std::memcmp(other.data(), all.data(), all.size() * sizeof(float)) == 0);
        }
    }
}

TEST_CASE("gemm for sm_80 agrees with the reference when K passes through all of its stages more than once") {
    for (const uint32_t type : {MOIRA_TYPE_BF16, MOIRA_TYPE_F8_E4M3, MOIRA_TYPE_F4_E2M1}) {
        const gemm_case test(type, MOIRA_COMPUTE_AUTO, 40, type == MOIRA_TYPE_BF16 ? 900 : 1800, false);
        const std::vector<float> expected = reference_case(test, 9);
        uint32_t turn = 0;
        for (const simt_config& config : simt_all_schedules(31)) {
            const uint32_t tile_rows = std::vector<uint32_t>{8, 32, 128}[turn++ % 3];
            INFO("type ", type, ", tile of ", tile_rows, ", schedule ", int(config.schedule));
            const std::vector<float> out = run_case(test, 9, config, tile_rows);
            CHECK(worst_relative_error(out, expected, test.desc.n) < 10 * order_error_max);
        }
    }
}

} // namespace moira
