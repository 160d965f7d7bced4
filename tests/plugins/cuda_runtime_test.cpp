// Everything of a CUDA plugin but its kernels and the CUDA calls themselves, on a scripted CUDA.
#include "core/execute/compute_pool.hpp"
#include "kernels/reference/reference_kernels.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"
#include "tests/plugins/scripted_cuda.hpp"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>
#include <string>
#include <utility>
#include <vector>

extern "C" moira_status moira_plugin_open_v0(const moira_plugin_api** table);

using namespace moira;

namespace {

int rmsnorm_code = 0;

/// Adds one to every element; a row whose first element is negative is an error.
int launch_rmsnorm(const moira_rmsnorm_desc& desc, const moira_rmsnorm_args& args, const cuda_launch& launch) {
    const auto work = [desc, args, slot = reinterpret_cast<error_slot_words*>(launch.errors)] {
        for (uint32_t row = args.rows; row-- > 0;) { // any order: the least row wins
            const float* in = args.in + row * args.in_stride;
            if (in[0] < 0) {
                const uint64_t high = uint64_t{row} << 32;
                slot->row_code = std::min(slot->row_code, high | MOIRA_ERROR_PAGE_OUT_OF_RANGE);
                slot->row_detail = std::min(slot->row_detail, high | 77u);
            }
            for (uint32_t i = 0; i < desc.width; ++i)
                args.out[row * args.out_stride + i] = in[i] + 1;
        }
    };
    scripted_cuda().queue(launch.stream, work);
    return std::exchange(rmsnorm_code, 0);
}

const char* narrow(const moira_rmsnorm_desc& desc) {
    return desc.width > 64 ? "is wider than 64" : nullptr;
}

const cuda_kernels& kernels() {
    static const cuda_kernels table = {
        .numerics_id = "scripted",
        .weight_supported = reference_weight_supported,
        .packing = reference_packing(),
        .rmsnorm = {launch_rmsnorm, narrow},
    };
    return table;
}

constexpr cuda_description h100 = {"H100", 9, 0, 132, 1, uint64_t{80} << 30};
constexpr cuda_description old = {"V100", 7, 0, 80, 1, uint64_t{16} << 30};

} // namespace

const cuda_plugin& moira::this_cuda_plugin() {
    static const cuda_plugin plugin = {"scripted", "compute capability 8.0 or newer",
                                       60,         [](uint32_t major, uint32_t) { return major >= 8; },
                                       kernels,    scripted_cuda_calls};
    return plugin;
}

namespace {

/// A device with a stream, a prepared rmsnorm of 4 rows of 4, and what it reads and writes.
struct session {
    compute_pool pool{{1, 0}};
    plugin_host_services services{pool, {}};
    const moira_plugin_api* api = nullptr;
    moira_device* device = nullptr;
    moira_stream* stream = nullptr;
    moira_buffer* memory = nullptr;
    moira_op* op = nullptr;
    float* in = nullptr;
    float* out = nullptr;

    explicit session(std::vector<cuda_description> devices = {h100}) {
        scripted_cuda() = {};
        scripted_cuda().devices = std::move(devices);
        REQUIRE(moira_plugin_open_v0(&api) == MOIRA_OK);
    }
    ~session() {
        api->op_destroy(op);
        api->buffer_destroy(memory);
        api->stream_destroy(stream);
        api->device_close(device);
        CHECK(scripted_cuda().nothing_left());
    }
    session(const session&) = delete;
    session& operator=(const session&) = delete;

    moira_status open(uint32_t index = 0) { return api->device_open(&services.table(), index, &device); }
    void open_all() {
        REQUIRE(open() == MOIRA_OK);
        REQUIRE(api->stream_create(device, &stream) == MOIRA_OK);
        REQUIRE(api->buffer_create(device, 4096, 64, &memory) == MOIRA_OK);
        in = static_cast<float*>(api->buffer_address(memory));
        out = in + 512;
        const moira_rmsnorm_desc desc = norm(4);
        uint64_t workspace = 1;
        REQUIRE(api->op_prepare(device, &desc.header, &op, &workspace) == MOIRA_OK);
        CHECK(workspace == 0);
    }
    static moira_rmsnorm_desc norm(uint32_t width) {
        moira_rmsnorm_desc desc{};
        desc.header = {sizeof desc, MOIRA_OP_RMSNORM, 4};
        desc.width = width;
        desc.epsilon = 1e-6f;
        return desc;
    }
    moira_status launch(uint32_t rows = 4) {
        moira_rmsnorm_args args{};
        args.rows = rows;
        args.groups = 1;
        args.in = in;
        args.out = out;
        args.weight = in;
        args.in_stride = args.out_stride = 4;
        const moira_launch list{op, &args};
        return api->launch(stream, &list, 1);
    }
    moira_status upload(const std::vector<float>& values) {
        return api->copy_to_device(stream, in, values.data(), values.size() * sizeof(float));
    }
    std::string words() const {
        char text[MOIRA_TEXT_BYTES];
        api->last_error(text, sizeof text);
        return text;
    }
};

const std::vector<float> sixteen = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

} // namespace

TEST_CASE("without a driver, opening fails with CUDA's words and leaves nothing behind") {
    session none(std::vector<cuda_description>{});
    scripted_cuda().count_code = 35;
    CHECK(none.open() == MOIRA_UNSUPPORTED);
    CHECK(none.words().find("insufficient") != std::string::npos);
    CHECK(none.device == nullptr);
}

TEST_CASE("opening counts only devices that the plugin's code runs on") {
    session two({old, h100, old, h100});
    REQUIRE(two.open(1) == MOIRA_OK);
    CHECK(two.device->ordinal == 3);
    moira_device* third = nullptr;
    CHECK(two.api->device_open(&two.services.table(), 2, &third) == MOIRA_UNSUPPORTED);
    CHECK(third == nullptr);
}

TEST_CASE("whatever call fails while opening, nothing is left") {
    for (const char* call : {"describe", "select", "stream_create", "pool_create"}) {
        CAPTURE(call);
        session one;
        scripted_cuda().fail_next[call] = 2;
        CHECK(one.open() != MOIRA_OK);
        CHECK(one.device == nullptr);
        CHECK(scripted_cuda().nothing_left());
    }
}

TEST_CASE("whatever call fails while a stream or a buffer is made, nothing of it is left") {
    for (const char* call : {"stream_create", "allocate", "allocate_host", "event_create", "fill"}) {
        CAPTURE(call);
        session one;
        REQUIRE(one.open() == MOIRA_OK);
        const auto streams = scripted_cuda().streams.size();
        scripted_cuda().fail_next[call] = 2;
        CHECK(one.api->stream_create(one.device, &one.stream) == MOIRA_OUT_OF_MEMORY);
        CHECK(one.stream == nullptr);
        CHECK(scripted_cuda().streams.size() == streams);
        CHECK(scripted_cuda().host_memory.empty());
        CHECK(scripted_cuda().device_memory.empty());
    }
    session one;
    REQUIRE(one.open() == MOIRA_OK);
    scripted_cuda().fail_next["allocate"] = 2;
    CHECK(one.api->buffer_create(one.device, 64, 64, &one.memory) == MOIRA_OUT_OF_MEMORY);
    CHECK(one.api->buffer_create(one.device, UINT64_MAX, 4096, &one.memory) == MOIRA_OUT_OF_MEMORY);
    CHECK(one.api->buffer_create(one.device, 64, 48, &one.memory) == MOIRA_INVALID_ARGUMENT);
    CHECK(one.memory == nullptr);
}

TEST_CASE("buffers are as aligned as they were asked to be") {
    session one;
    REQUIRE(one.open() == MOIRA_OK);
    for (const uint64_t alignment : {1, 64, 256, 4096, 65536}) {
        moira_buffer* buffer = nullptr;
        REQUIRE(one.api->buffer_create(one.device, 100, alignment, &buffer) == MOIRA_OK);
        CHECK(reinterpret_cast<uintptr_t>(one.api->buffer_address(buffer)) % alignment == 0);
        one.api->buffer_destroy(buffer);
    }
}

TEST_CASE("a step: upload, launch, download, in order, done when synchronised") {
    session one;
    one.open_all();
    std::vector<float> values = sixteen;
    REQUIRE(one.upload(values) == MOIRA_OK);
    values.assign(16, -1); // small copies have taken the values already
    REQUIRE(one.launch() == MOIRA_OK);
    std::vector<float> got(16, 0);
    REQUIRE(one.api->copy_to_host(one.stream, got.data(), one.out, 64) == MOIRA_OK);
    CHECK(got[15] == 0);
    REQUIRE(one.api->stream_synchronize(one.stream) == MOIRA_OK);
    CHECK(got[0] == 1);
    CHECK(got[15] == 16);
}

TEST_CASE("the first error of a step wins: by launch, then by row, and reading it clears it") {
    session one;
    one.open_all();
    std::vector<float> values = sixteen;
    values[8] = -5;  // row 2
    values[12] = -6; // row 3
    REQUIRE(one.upload(values) == MOIRA_OK);
    REQUIRE(one.launch() == MOIRA_OK);
    values[0] = -1; // row 0, of a later launch
    REQUIRE(one.upload(values) == MOIRA_OK);
    REQUIRE(one.launch() == MOIRA_OK);
    CHECK(one.api->stream_synchronize(one.stream) == MOIRA_STEP_ERROR);
    moira_error_word word{};
    REQUIRE(one.api->stream_error(one.stream, &word) == MOIRA_OK);
    CHECK(word.code == MOIRA_ERROR_PAGE_OUT_OF_RANGE);
    CHECK(word.op == MOIRA_OP_RMSNORM);
    CHECK(word.row == 2);
    CHECK(word.detail == 77);
    REQUIRE(one.upload(sixteen) == MOIRA_OK);
    REQUIRE(one.launch() == MOIRA_OK);
    CHECK(one.api->stream_synchronize(one.stream) == MOIRA_OK);
}

TEST_CASE("a step may be longer than the error slots") {
    session one;
    one.open_all();
    std::vector<float> values = sixteen;
    values[4] = -1;
    REQUIRE(one.upload(values) == MOIRA_OK);
    REQUIRE(one.launch() == MOIRA_OK);
    REQUIRE(one.upload(sixteen) == MOIRA_OK);
    for (uint32_t i = 0; i < 2 * error_slots; ++i)
        REQUIRE(one.launch() == MOIRA_OK);
    CHECK(one.api->stream_synchronize(one.stream) == MOIRA_STEP_ERROR);
    moira_error_word word{};
    REQUIRE(one.api->stream_error(one.stream, &word) == MOIRA_OK);
    CHECK(word.row == 1);
}

TEST_CASE("many small copies pass through the staging memory unharmed") {
    session one;
    one.open_all();
    moira_buffer* large = nullptr;
    constexpr uint32_t pieces = 200;
    constexpr uint64_t words = 4096; // 16 KiB each, more than the ring and the downloads hold together
    REQUIRE(one.api->buffer_create(one.device, pieces * words * 4, 64, &large) == MOIRA_OK);
    auto* device = static_cast<uint32_t*>(one.api->buffer_address(large));
    std::vector<uint32_t> piece(words);
    for (uint32_t i = 0; i < pieces; ++i) {
        piece.assign(words, i);
        REQUIRE(one.api->copy_to_device(one.stream, device + i * words, piece.data(), words * 4) == MOIRA_OK);
    }
    std::vector<uint32_t> back(pieces * words);
    for (uint32_t i = 0; i < pieces; ++i)
        REQUIRE(one.api->copy_to_host(one.stream, back.data() + i * words, device + i * words, words * 4) == MOIRA_OK);
    REQUIRE(one.api->stream_synchronize(one.stream) == MOIRA_OK);
    bool right = true;
    for (uint64_t i = 0; i < back.size(); ++i)
        right = right && back[i] == i / words;
    CHECK(right);
    one.api->buffer_destroy(large);
}

TEST_CASE("a large copy is one call, a copy of nothing none") {
    session one;
    one.open_all();
    moira_buffer* pinned = nullptr;
    moira_buffer* large = nullptr;
    REQUIRE(one.api->host_buffer_create(one.device, 1 << 20, 4096, &pinned) == MOIRA_OK);
    REQUIRE(one.api->buffer_create(one.device, 1 << 20, 64, &large) == MOIRA_OK);
    const int before = scripted_cuda().calls["copy"];
    CHECK(one.api->copy_to_device(one.stream, one.api->buffer_address(large), one.api->buffer_address(pinned),
                                  1 << 20) == MOIRA_OK);
    CHECK(one.api->copy_to_device(one.stream, nullptr, nullptr, 0) == MOIRA_OK);
    CHECK(scripted_cuda().calls["copy"] == before + 1);
    CHECK(one.api->copy_to_device(one.stream, nullptr, pinned, 8) == MOIRA_INVALID_ARGUMENT);
    one.api->buffer_destroy(large);
    one.api->buffer_destroy(pinned);
}

TEST_CASE("an op without a kernel, or beyond its kernel's limits, is missing in words, and cannot be prepared") {
    session one;
    one.open_all();
    moira_op_support support{};
    support.struct_size = sizeof support;
    moira_rmsnorm_desc wide = session::norm(65);
    REQUIRE(one.api->op_query(one.device, &wide.header, &support) == MOIRA_OK);
    CHECK(support.score <= 0);
    CHECK(std::string(support.reason).find("wider than 64") != std::string::npos);
    moira_combine_desc combine{};
    combine.header = {sizeof combine, MOIRA_OP_COMBINE, 4};
    combine.width = 8;
    REQUIRE(one.api->op_query(one.device, &combine.header, &support) == MOIRA_OK);
    CHECK(support.score <= 0);
    CHECK(std::string(support.reason).find("combine") != std::string::npos);
    moira_op* op = nullptr;
    uint64_t workspace = 0;
    CHECK(one.api->op_prepare(one.device, &combine.header, &op, &workspace) == MOIRA_UNSUPPORTED);
    CHECK(op == nullptr);
    const moira_rmsnorm_desc good = session::norm(64);
    REQUIRE(one.api->op_query(one.device, &good.header, &support) == MOIRA_OK);
    CHECK(support.score == 60);
}

TEST_CASE("a launch with too many rows or a missing address is refused and queues nothing") {
    session one;
    one.open_all();
    CHECK(one.launch(5) == MOIRA_INVALID_ARGUMENT);
    float* const kept = std::exchange(one.in, nullptr);
    CHECK(one.launch() == MOIRA_INVALID_ARGUMENT);
    CHECK(one.launch(0) == MOIRA_OK); // nothing to read
    one.in = kept;
    CHECK(one.api->launch(one.stream, nullptr, 1) == MOIRA_INVALID_ARGUMENT);
    const moira_launch empty{};
    CHECK(one.api->launch(one.stream, &empty, 1) == MOIRA_INVALID_ARGUMENT);
}

TEST_CASE(
    "a refused launch fails alone; an illegal address loses the device for good, and it can still be taken apart") {
    session one;
    one.open_all();
    REQUIRE(one.upload(sixteen) == MOIRA_OK);
    rmsnorm_code = 9; // cudaErrorInvalidConfiguration
    CHECK(one.launch() == MOIRA_LAUNCH_FAILED);
    CHECK(one.launch() == MOIRA_OK);
    scripted_cuda().fail_next["stream_synchronize"] = 700; // cudaErrorIllegalAddress
    CHECK(one.api->stream_synchronize(one.stream) == MOIRA_DEVICE_LOST);
    CHECK(one.launch() == MOIRA_DEVICE_LOST);
    CHECK(one.upload(sixteen) == MOIRA_DEVICE_LOST);
    moira_buffer* buffer = nullptr;
    CHECK(one.api->buffer_create(one.device, 64, 64, &buffer) == MOIRA_DEVICE_LOST);
    moira_stream* stream = nullptr;
    CHECK(one.api->stream_create(one.device, &stream) == MOIRA_DEVICE_LOST);
}

TEST_CASE("a buffer is released only after what the streams have queued") {
    session one;
    one.open_all();
    REQUIRE(one.upload(sixteen) == MOIRA_OK);
    REQUIRE(one.launch() == MOIRA_OK);
    one.api->buffer_destroy(std::exchange(one.memory, nullptr));
    CHECK(one.api->stream_synchronize(one.stream) == MOIRA_OK); // under the address sanitizer: no use after free
}

TEST_CASE("events order streams and tell when they are done") {
    session one;
    one.open_all();
    moira_stream* copies = nullptr;
    moira_event* arrived = nullptr;
    REQUIRE(one.api->stream_create(one.device, &copies) == MOIRA_OK);
    REQUIRE(one.api->event_create(one.device, &arrived) == MOIRA_OK);
    REQUIRE(one.api->copy_to_device(copies, one.in, sixteen.data(), 64) == MOIRA_OK);
    REQUIRE(one.api->event_record(copies, arrived) == MOIRA_OK);
    uint32_t done = 1;
    REQUIRE(one.api->event_done(arrived, &done) == MOIRA_OK);
    CHECK(done == 0);
    REQUIRE(one.api->event_wait(one.stream, arrived) == MOIRA_OK);
    REQUIRE(one.launch() == MOIRA_OK);
    float last = 0;
    REQUIRE(one.api->copy_to_host(one.stream, &last, one.out + 15, 4) == MOIRA_OK);
    REQUIRE(one.api->stream_synchronize(one.stream) == MOIRA_OK);
    CHECK(last == 16);
    REQUIRE(one.api->event_done(arrived, &done) == MOIRA_OK);
    CHECK(done == 1);
    one.api->event_destroy(arrived);
    one.api->stream_destroy(copies);
}

TEST_CASE("the device tells its memory") {
    session one;
    one.open_all();
    moira_memory_info info{};
    info.struct_size = sizeof info;
    REQUIRE(one.api->memory_info(one.device, &info) == MOIRA_OK);
    CHECK(info.bytes_total == h100.memory_bytes);
    CHECK(info.bytes_free == h100.memory_bytes / 2);
}
