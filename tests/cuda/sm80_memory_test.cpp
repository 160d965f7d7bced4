// How the sm_80 kernels use memory: bank conflicts of shared memory, and sectors of global memory beyond those that the
// bytes fill. Figures of whole launches, printed where a bound is broken, or with --success; bounds that a changed
// layout would break.
#include "kernels/cuda/sm80/weight_plan.hpp"
#include "tests/cuda/sm80_on_host.hpp"
#include "tests/cuda/stored_matrix.hpp"

#include <doctest/doctest.h>

namespace moira {

namespace {

simt_config counting() {
    simt_config config;
    config.schedule = simt_schedule::warp_greedy;
    config.count_memory_requests = true;
    return config;
}

// Passes beyond the first per pass that is needed, and sectors per sector that is needed, both in percent.
void check_use(const char* what, const simt_report& report, double conflict_percent_max, double sector_percent_max) {
    REQUIRE_MESSAGE(report.clean(), report.text());
    const double conflicts = 100.0 * double(report.bank_conflicts) / double(report.bank_phases);
    const double sectors = 100.0 * double(report.global_sectors) / double(report.global_sectors_least) - 100.0;
    INFO(what, ": ", report.bank_conflicts, " conflicts in ", report.bank_phases, " passes, ", report.global_sectors,
         " sectors for ", report.global_sectors_least);
    CHECK(conflicts <= conflict_percent_max);
    CHECK(sectors <= sector_percent_max);
}

simt_report run_gemm(uint32_t type, uint32_t tile_rows) {
    constexpr uint32_t n = 256;
    constexpr uint32_t k = 512;
    constexpr uint32_t rows = 8;
    simt_memory memory;
    const stored_matrix matrix(type, n, k, 3);
    moira_gemm_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_GEMM, rows};
    desc.n = n;
    desc.k = k;
    desc.compute = type == MOIRA_TYPE_F32 ? MOIRA_COMPUTE_F32 : MOIRA_COMPUTE_AUTO;
    desc.quantization = matrix.quantization;
    const packing_kernels packing = sm80_packing();
    std::vector<unsigned char> packed(packing.matrix_bytes(desc.quantization, n, k));
    packing.pack_matrix(desc.quantization, n, k, matrix.bytes.data(), k, 1, matrix.scales.data(), packed.data());
    moira_gemm_args args{};
    args.rows = rows;
    args.weight = memory.copy_of("weight", packed);
    args.x = memory.copy_of("x", random_values(rows * k, 4, 1.0f));
    args.x_stride = k;
    args.out = memory.allocate_array<float>("out", rows * n);
    args.out_stride = n;
    if (const uint64_t bytes = sm80_gemm_workspace(desc))
        args.workspace = memory.allocate("workspace", bytes);
    return run_sm80_gemm(desc, args, counting(), memory, tile_rows);
}

simt_report run_gqa(uint32_t head_dim, bool shared_out) {
    constexpr uint32_t tokens = 512;
    simt_memory memory;
    moira_attention_gqa_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_ATTENTION_GQA, 1};
    desc.heads = 16;
    desc.kv_heads = 1;
    desc.head_dim = head_dim;
    desc.kv_type = MOIRA_TYPE_BF16;
    desc.page_tokens = 16;
    desc.pages = tokens / 16;
    desc.context_max = tokens;
    desc.scale = 0.1f;
    std::vector<int32_t> pages;
    for (uint32_t page = 0; page < desc.pages; ++page)
        pages.push_back(int32_t(page * 5 % desc.pages));
    moira_attention_args args{};
    args.rows = 1;
    args.page_table_entries = desc.pages;
    args.q = memory.copy_of("q", random_values(16 * head_dim, 5, 1.0f));
    args.q_stride = 16 * head_dim;
    args.row_table = memory.copy_of("rows", std::vector<moira_attention_row>{{tokens - 1, tokens, 0, -1}});
    args.kv = {memory.copy_of("pool", std::vector<uint16_t>(2 * tokens * head_dim, 0x3C00)), 2 * head_dim, head_dim,
               memory.copy_of("pages", pages)};
    args.out = memory.allocate_array<float>("out", 16 * head_dim);
    args.out_stride = 16 * head_dim;
    const attention_split_choice choice{128, shared_out};
    args.workspace = memory.allocate("workspace", sm80_attention_bytes(desc, 1, choice));
    cuda_launch launch{};
    launch.errors = memory.copy_of("error", std::vector<step_error_slot>{{~0ull, ~0ull}}, false);
    return run_sm80_attention(desc, args, launch, counting(), memory, choice);
}

} // namespace

// Beyond the sectors that the bytes fill: x is rounded in pairs, read as two halves, of which the second is in L1; and
// tiles of 2,064 bytes begin within a sector every other time.
TEST_CASE("products read weights without bank conflicts and in whole sectors") {
    if (!simt_has_hooks())
        return;
    for (const uint32_t tile_rows : {8u, 32u, 128u}) {
        check_use("BF16", run_gemm(MOIRA_TYPE_BF16, tile_rows), 0.0, 10.0);
        check_use("F8_E4M3", run_gemm(MOIRA_TYPE_F8_E4M3, tile_rows), 1.1, 12.0);
        check_use("MXFP4", run_gemm(MOIRA_TYPE_F4_E2M1, tile_rows), 0.0, 13.0);
    }
    check_use("F32", run_gemm(MOIRA_TYPE_F32, 0), 0.0, 0.0);
}

// Storing weights takes one pass too many in each of 32 positions: rows that suit ldmatrix do not suit both. Queries
// are read as halves of pairs, once per split.
TEST_CASE("attention reads keys and values without bank conflicts and in whole sectors") {
    if (!simt_has_hooks())
        return;
    for (const bool shared_out : {false, true}) {
        check_use("64", run_gqa(64, shared_out), 5.0, 17.0);
        check_use("128", run_gqa(128, shared_out), 5.0, 17.0);
    }
}

} // namespace moira
