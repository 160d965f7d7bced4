// gemm by cuBLASLt on a scripted CUDA with a scripted library: when it is opened, which algorithm is taken, and what
// happens to the rows of the last block.
#include "core/execute/compute_pool.hpp"
#include "kernels/packed_layout.hpp"
#include "kernels/reference/reference_kernels.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"
#include "tests/plugins/scripted_cublas.hpp"
#include "tests/plugins/scripted_cuda.hpp"

#include <bit>
#include <cstring>
#include <doctest/doctest.h>
#include <string>
#include <vector>

extern "C" moira_status moira_plugin_open_v0(const moira_plugin_api** table);

using namespace moira;

namespace {

int round_rows(const float* x, uint64_t x_stride, uint32_t rows, uint32_t k, uint16_t* out, const cuda_launch& launch) {
    scripted_cuda().queue(launch.stream, [=] {
        for (uint32_t row = 0; row < rows; ++row)
            for (uint32_t i = 0; i < k; ++i) // the tests' numbers are exact in BF16
                out[uint64_t{row} * k + i] =
                    static_cast<uint16_t>(std::bit_cast<uint32_t>(x[row * x_stride + i]) >> 16);
    });
    return 0;
}

int own_gemm(const moira_gemm_desc&, const moira_gemm_args&, const cuda_launch&) {
    return 0;
}

const cuda_kernels& kernels() {
    static const cuda_kernels table = {
        .numerics_id = "scripted-1",
        .weight_supported = reference_weight_supported,
        .packing =
            [] {
                packing_kernels own = reference_packing();
                own.layout_base = 99;
                return own;
            }(),
        .gemm = {own_gemm},
        .round_rows = round_rows,
    };
    return table;
}

} // namespace

const cuda_plugin& moira::this_cuda_plugin() {
    static const cuda_plugin plugin = {"scripted", "any GPU",          60, [](uint32_t, uint32_t) { return true; },
                                       kernels,    scripted_cuda_calls};
    return plugin;
}

namespace {

struct session {
    compute_pool pool{{1, 0}};
    plugin_host_services services{pool, {}};
    const moira_plugin_api* api = nullptr;
    moira_device* device = nullptr;
    moira_stream* stream = nullptr;
    std::vector<moira_buffer*> buffers;

    explicit session(bool with_library = true) {
        scripted_cuda() = {};
        scripted_cuda().devices = {{"H100", 9, 0, 132, 1, uint64_t{80} << 30}};
        scripted_cuda().library = with_library ? &scripted_cublas_calls() : nullptr;
        scripted_cublas() = {};
        REQUIRE(moira_plugin_open_v0(&api) == MOIRA_OK);
        REQUIRE(api->device_open(&services.table(), 0, &device) == MOIRA_OK);
        REQUIRE(api->stream_create(device, &stream) == MOIRA_OK);
    }
    ~session() {
        for (moira_buffer* buffer : buffers)
            api->buffer_destroy(buffer);
        api->stream_destroy(stream);
        api->device_close(device);
        CHECK(scripted_cuda().nothing_left());
        CHECK(scripted_cublas().handles == 0);
        CHECK(scripted_cublas().objects == 0);
    }
    session(const session&) = delete;
    session& operator=(const session&) = delete;

    void* reserve(uint64_t bytes) {
        moira_buffer* buffer = nullptr;
        REQUIRE(api->buffer_create(device, bytes, 256, &buffer) == MOIRA_OK);
        buffers.push_back(buffer);
        return api->buffer_address(buffer); // host memory on the scripted machine
    }
    moira_op_support query(const moira_gemm_desc& desc) const {
        moira_op_support support{};
        support.struct_size = sizeof support;
        CHECK(api->op_query(device, &desc.header, &support) == MOIRA_OK);
        return support;
    }
    moira_status prepare(const moira_gemm_desc& desc, moira_op** op, uint64_t& workspace) const {
        return api->op_prepare(device, &desc.header, op, &workspace);
    }
};

moira_gemm_desc gemm(uint32_t rows_max, uint32_t n, uint32_t k, bool bias = false, bool accumulate = false) {
    moira_gemm_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_GEMM, rows_max};
    desc.n = n;
    desc.k = k;
    desc.compute = MOIRA_COMPUTE_LIBRARY;
    desc.has_bias = bias ? 1 : 0;
    desc.accumulate = accumulate ? 1 : 0;
    desc.quantization = {MOIRA_TYPE_BF16, MOIRA_SCALE_NONE, 0, 0, 0, MOIRA_ACTIVATION_KEEP};
    return desc;
}

/// Small integers: exact in BF16, and their sums in float32, in any order.
float number(uint64_t index) {
    return static_cast<float>(static_cast<int>(index * 2654435761u >> 7 & 15u) - 8);
}

/// One product with everything that it reads; out has a stride of n + 4 and -1 where nothing is written.
struct product {
    session& on;
    moira_gemm_desc desc;
    moira_op* op = nullptr;
    uint64_t workspace_bytes = 0;
    moira_gemm_args args{};
    std::vector<float> expected;

    product(session& where, const moira_gemm_desc& wanted, uint32_t rows, uint64_t spare = 4)
        : on(where), desc(wanted) {
        REQUIRE(on.prepare(desc, &op, workspace_bytes) == MOIRA_OK);
        args.rows = rows;
        args.x_stride = desc.k + 5;
        args.out_stride = desc.n + spare;
        auto* x = static_cast<float*>(on.reserve((rows + 1) * args.x_stride * 4));
        auto* weight = static_cast<uint16_t*>(on.reserve(uint64_t{desc.n} * desc.k * 2));
        auto* bias = static_cast<float*>(on.reserve(desc.n * 4));
        args.out = static_cast<float*>(on.reserve((rows + 1) * args.out_stride * 4));
        for (uint64_t i = 0; i < rows * args.x_stride; ++i)
            x[i] = number(i);
        for (uint64_t i = 0; i < uint64_t{desc.n} * desc.k; ++i)
            weight[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(number(i + 77)) >> 16);
        for (uint32_t i = 0; i < desc.n; ++i)
            bias[i] = number(i + 1000);
        for (uint64_t i = 0; i < (rows + 1) * args.out_stride; ++i)
            args.out[i] = -1;
        expected.assign(args.out, args.out + (rows + 1) * args.out_stride);
        for (uint32_t row = 0; row < rows; ++row)
            for (uint32_t column = 0; column < desc.n; ++column) {
                float sum = desc.has_bias ? bias[column] : 0.0f;
                for (uint32_t k = 0; k < desc.k; ++k)
                    sum += x[row * args.x_stride + k] * number(uint64_t{column} * desc.k + k + 77);
                float& place = expected[row * args.out_stride + column];
                place = desc.accumulate ? place + sum : sum;
            }
        args.x = x;
        args.weight = weight;
        args.bias = bias;
        args.workspace = on.reserve(workspace_bytes);
    }
    ~product() { on.api->op_destroy(op); }
    product(const product&) = delete;
    product& operator=(const product&) = delete;

    moira_status run() {
        const moira_launch list{op, &args};
        if (const moira_status status = on.api->launch(on.stream, &list, 1))
            return status;
        return on.api->stream_synchronize(on.stream);
    }
    bool as_expected() const { return std::memcmp(expected.data(), args.out, expected.size() * sizeof(float)) == 0; }
};

} // namespace

TEST_CASE("the library is opened when the first op asks for it, and not by the others") {
    session one;
    moira_gemm_desc own = gemm(4, 64, 64);
    own.compute = MOIRA_COMPUTE_AUTO;
    CHECK(one.query(own).score == 60);
    CHECK(one.query(own).row_exact == 1);
    CHECK(scripted_cuda().calls["load_library"] == 0);
    CHECK(one.query(gemm(4, 64, 64)).score == 60);
    CHECK(one.query(gemm(9, 64, 128)).score == 60);
    CHECK(scripted_cuda().calls["load_library"] == 1);
    CHECK(scripted_cublas().handles == 1);
}

TEST_CASE("without the library the op is refused with the reason, and the own gemm stays") {
    session none(false);
    const moira_op_support support = none.query(gemm(4, 64, 64));
    CHECK(support.score == 0);
    CHECK(std::string(support.reason).find("cuBLASLt") != std::string::npos);
    moira_op* op = nullptr;
    uint64_t workspace = 0;
    CHECK(none.prepare(gemm(4, 64, 64), &op, workspace) == MOIRA_UNSUPPORTED);
    moira_gemm_desc own = gemm(4, 64, 64);
    own.compute = MOIRA_COMPUTE_AUTO;
    CHECK(none.query(own).score == 60);
}

TEST_CASE("a library that does not start, or finds nothing, is refused and leaves nothing behind") {
    session one;
    scripted_cublas().create_code = 1;
    CHECK(one.query(gemm(4, 64, 64)).score == 0);
    scripted_cublas().create_code = 0;
    scripted_cublas().find_code = 15;
    CHECK(one.query(gemm(4, 64, 64)).score == 0);
    scripted_cublas().find_code = 0;
    scripted_cublas().algorithms.clear();
    CHECK(one.query(gemm(4, 64, 64)).score == 0);
    scripted_cublas().algorithms.resize(1);
    CHECK(one.query(gemm(4, 64, 64)).score == 60);
}

TEST_CASE("nothing is promised that no device has shown, and the numbers have a name of their own") {
    session one;
    const moira_op_support support = one.query(gemm(4, 64, 64));
    CHECK(support.row_exact == 0);
    CHECK(std::string(support.numerics_id) == "scripted-1/cublaslt-130100");
}

TEST_CASE("one algorithm per shape, chosen once for every number of rows") {
    session one;
    (void)one.query(gemm(1, 64, 64));
    (void)one.query(gemm(512, 64, 64));
    {
        product few(one, gemm(3, 64, 64), 3);
        product many(one, gemm(300, 64, 64), 300);
        CHECK(few.run() == MOIRA_OK);
        CHECK(many.run() == MOIRA_OK);
    }
    CHECK(scripted_cublas().searches == 1);
    (void)one.query(gemm(1, 128, 64));
    CHECK(scripted_cublas().searches == 2);
}

TEST_CASE("algorithms that split k, want too much memory, or refuse a single block are passed over") {
    session one;
    scripted_cublas().algorithms = {{4, 0, 0, 0, 0},  {1, 2, 0, 0, 0},  {1, 0, library_workspace_bytes + 1, 0, 0},
                                    {1, 0, 0, 15, 0}, {1, 0, 0, 0, 15}, {1, 0, library_workspace_bytes, 0, 0},
                                    {1, 0, 0, 0, 0}};
    {
        product some(one, gemm(5, 64, 64), 5);
        CHECK(some.run() == MOIRA_OK);
        CHECK(some.as_expected());
    }
    REQUIRE(scripted_cublas().multiplications.size() == 1);
    CHECK(scripted_cublas().multiplications[0].algorithm == 5);
    scripted_cublas().algorithms.resize(5);
    CHECK(one.query(gemm(5, 128, 64)).score == 0);
}

TEST_CASE("any number of rows, with and without bias and accumulation, and nothing beside them is written") {
    session one;
    for (const uint32_t rows : {1u, 127u, 128u, 129u, 300u})
        for (const bool bias : {false, true})
            for (const bool accumulate : {false, true}) {
                CAPTURE(rows);
                CAPTURE(bias);
                CAPTURE(accumulate);
                scripted_cublas().multiplications.clear();
                product each(one, gemm(rows, 16, 24, bias, accumulate), rows);
                CHECK(each.run() == MOIRA_OK);
                CHECK(each.as_expected());
                for (const scripted_multiplication& seen : scripted_cublas().multiplications) {
                    CHECK(seen.rows % library_block_rows == 0);
                    CHECK(seen.workspace_bytes == library_workspace_bytes);
                    const auto* begin = static_cast<const char*>(each.args.workspace);
                    const auto* place = static_cast<const char*>(seen.workspace);
                    CHECK(place >= begin);
                    CHECK(place + seen.workspace_bytes <= begin + each.workspace_bytes);
                }
            }
}

TEST_CASE("fewer rows than prepared for are fine; no rows are no work") {
    session one;
    product each(one, gemm(300, 16, 24), 17);
    CHECK(each.run() == MOIRA_OK);
    CHECK(each.as_expected());
    each.args.rows = 0;
    const auto before = scripted_cublas().multiplications.size();
    CHECK(each.run() == MOIRA_OK);
    CHECK(scripted_cublas().multiplications.size() == before);
}

TEST_CASE("shapes and types that the library's path does not take are refused with words") {
    session one;
    moira_gemm_desc f8 = gemm(4, 128, 128);
    f8.quantization = {MOIRA_TYPE_F8_E4M3, MOIRA_SCALE_BLOCK, MOIRA_TYPE_F32, 128, 128, MOIRA_ACTIVATION_KEEP};
    for (const moira_gemm_desc& desc : {f8, gemm(4, 65, 64), gemm(4, 64, 68), gemm(4, 151936, 64)}) {
        const moira_op_support support = one.query(desc);
        CHECK(support.score == 0);
        CHECK(std::string(support.reason).find("cuBLASLt") != std::string::npos);
    }
    CHECK(scripted_cuda().calls["load_library"] == 0);
    product crooked(one, gemm(4, 16, 24), 4, 3);
    CHECK(crooked.run() == MOIRA_LAUNCH_FAILED);
}

TEST_CASE("a failing product is a failing launch, of the device when it was running") {
    session one;
    product each(one, gemm(4, 16, 24), 4);
    scripted_cublas().multiply_code = 7;
    CHECK(each.run() == MOIRA_LAUNCH_FAILED);
    scripted_cublas().multiply_code = 0;
    CHECK(each.run() == MOIRA_OK);
    scripted_cuda().fail_next["copy_rows"] = 2;
    CHECK(each.run() == MOIRA_LAUNCH_FAILED);
    scripted_cublas().multiply_code = 13; // CUBLAS_STATUS_EXECUTION_FAILED
    CHECK(each.run() == MOIRA_DEVICE_LOST);
}

TEST_CASE("the library reads weights as they are stored; its layout has an id of its own") {
    session one;
    moira_pack_desc desc{};
    desc.struct_size = sizeof desc;
    desc.kind = MOIRA_PACK_GEMM;
    desc.n = 16;
    desc.k = 24;
    desc.quantization = gemm(1, 16, 24).quantization;
    moira_pack_info own{sizeof own, 0, 0, 0, 0, 0}, library = own;
    desc.compute = MOIRA_COMPUTE_AUTO;
    REQUIRE(one.api->pack_query(one.device, &desc, &own) == MOIRA_OK);
    desc.compute = MOIRA_COMPUTE_LIBRARY;
    REQUIRE(one.api->pack_query(one.device, &desc, &library) == MOIRA_OK);
    CHECK(own.layout_id != library.layout_id);
    REQUIRE(library.packed_bytes >= 16 * 24 * 2);
    std::vector<uint16_t> weight(16 * 24);
    for (std::size_t i = 0; i < weight.size(); ++i)
        weight[i] = static_cast<uint16_t>(i * 3);
    const moira_pack_source source{weight.data(), nullptr, nullptr};
    std::vector<uint16_t> packed(library.packed_bytes / 2);
    REQUIRE(one.api->pack(one.device, &desc, &source, packed.data(), nullptr) == MOIRA_OK);
    CHECK(std::equal(weight.begin(), weight.end(), packed.begin()));
    desc.kind = MOIRA_PACK_EXPERT;
    CHECK(one.api->pack_query(one.device, &desc, &library) == MOIRA_UNSUPPORTED);
}

TEST_CASE("a file that is no cuBLASLt is refused by the name of what it lacks, one that is not there by the loader's") {
    cublas_calls calls{};
    char reason[MOIRA_TEXT_BYTES] = "";
    CHECK_FALSE(open_cublas("/nowhere/libcublasLt.so.13", calls, reason, sizeof reason));
    CHECK(std::string(reason).find("not found") != std::string::npos);
    CHECK_FALSE(open_cublas("libm.so.6", calls, reason, sizeof reason));
    CHECK(std::string(reason).find("cublasLtGetVersion") != std::string::npos);
}

#if !defined(__SANITIZE_ADDRESS__) // half a gigabyte that is not ours to check
TEST_CASE("where cuBLASLt is installed, all its functions are found and its release is the one that is needed") {
    char reason[MOIRA_TEXT_BYTES] = "";
    const cublas_calls* calls = load_cublas(reason, sizeof reason);
    if (!calls) {
        MESSAGE("skipped: ", std::string(reason));
        CHECK(reason[0] != 0);
        return;
    }
    CHECK(calls->version() / 10000 == cublas::version_major);
    CHECK(load_cublas(reason, sizeof reason) == calls);
    void* preference = nullptr;
    const uint64_t workspace = 1024;
    REQUIRE(calls->preference_create(&preference) == 0); // needs no device
    CHECK(calls->preference_set(preference, cublas::preference_workspace, &workspace, sizeof workspace) == 0);
    CHECK(calls->preference_set(preference, cublas::preference_workspace, &workspace, 4) != 0);
    CHECK(calls->preference_destroy(preference) == 0);
}
#endif
