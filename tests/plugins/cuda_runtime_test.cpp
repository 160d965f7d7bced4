// Everything of a CUDA plugin but its kernels and the CUDA calls themselves, on a scripted CUDA.
#include "tests/plugins/scripted_session.hpp"

#include <algorithm>
#include <cstring>

using namespace moira;

TEST_CASE("without a driver, opening fails with CUDA's words and leaves nothing behind") {
    scripted_session none(std::vector<cuda_description>{});
    scripted_cuda().count_code = 35;
    CHECK(none.open() == MOIRA_UNSUPPORTED);
    CHECK(none.words().find("insufficient") != std::string::npos);
    CHECK(none.device == nullptr);
}

TEST_CASE("opening counts only devices that the plugin's code runs on") {
    scripted_session two({old, h100, old, h100});
    REQUIRE(two.open(1) == MOIRA_OK);
    CHECK(two.device->ordinal == 3);
    moira_device* third = nullptr;
    CHECK(two.api->device_open(&two.services.table(), 2, &third) == MOIRA_UNSUPPORTED);
    CHECK(third == nullptr);
}

TEST_CASE("whatever call fails while opening, nothing is left") {
    for (const char* call : {"describe", "select", "stream_create", "pool_create"}) {
        CAPTURE(call);
        scripted_session one;
        scripted_cuda().fail_next[call] = 2;
        CHECK(one.open() != MOIRA_OK);
        CHECK(one.device == nullptr);
        CHECK(scripted_cuda().nothing_left());
    }
}

TEST_CASE("whatever call fails while a stream or a buffer is made, nothing of it is left") {
    for (const char* call : {"stream_create", "allocate", "allocate_host", "event_create", "fill"}) {
        CAPTURE(call);
        scripted_session one;
        REQUIRE(one.open() == MOIRA_OK);
        const auto streams = scripted_cuda().streams.size();
        scripted_cuda().fail_next[call] = 2;
        CHECK(one.api->stream_create(one.device, &one.stream) == MOIRA_OUT_OF_MEMORY);
        CHECK(one.stream == nullptr);
        CHECK(scripted_cuda().streams.size() == streams);
        CHECK(scripted_cuda().host_memory.empty());
        CHECK(scripted_cuda().device_memory.empty());
    }
    scripted_session one;
    REQUIRE(one.open() == MOIRA_OK);
    scripted_cuda().fail_next["allocate"] = 2;
    CHECK(one.api->buffer_create(one.device, 64, 64, &one.memory) == MOIRA_OUT_OF_MEMORY);
    CHECK(one.api->buffer_create(one.device, UINT64_MAX, 4096, &one.memory) == MOIRA_OUT_OF_MEMORY);
    CHECK(one.api->buffer_create(one.device, 64, 48, &one.memory) == MOIRA_INVALID_ARGUMENT);
    CHECK(one.memory == nullptr);
}

TEST_CASE("buffers are as aligned as they were asked to be") {
    scripted_session one;
    REQUIRE(one.open() == MOIRA_OK);
    for (const uint64_t alignment : {1, 64, 256, 4096, 65536}) {
        moira_buffer* buffer = nullptr;
        REQUIRE(one.api->buffer_create(one.device, 100, alignment, &buffer) == MOIRA_OK);
        CHECK(reinterpret_cast<uintptr_t>(one.api->buffer_address(buffer)) % alignment == 0);
        one.api->buffer_destroy(buffer);
    }
}

TEST_CASE("a step: upload, launch, download, in order, done when synchronised") {
    scripted_session one;
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
    scripted_session one;
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
    scripted_session one;
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
    scripted_session one;
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
    scripted_session one;
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
    scripted_session one;
    one.open_all();
    moira_op_support support{};
    support.struct_size = sizeof support;
    moira_rmsnorm_desc wide = scripted_session::norm(65);
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
    const moira_rmsnorm_desc good = scripted_session::norm(64);
    REQUIRE(one.api->op_query(one.device, &good.header, &support) == MOIRA_OK);
    CHECK(support.score == 60);
}

TEST_CASE("a launch with too many rows or a missing address is refused and queues nothing") {
    scripted_session one;
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
    scripted_session one;
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
    scripted_session one;
    one.open_all();
    REQUIRE(one.upload(sixteen) == MOIRA_OK);
    REQUIRE(one.launch() == MOIRA_OK);
    one.api->buffer_destroy(std::exchange(one.memory, nullptr));
    CHECK(one.api->stream_synchronize(one.stream) == MOIRA_OK); // under the address sanitizer: no use after free
}

TEST_CASE("events order streams and tell when they are done") {
    scripted_session one;
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
    scripted_session one;
    one.open_all();
    moira_memory_info info{};
    info.struct_size = sizeof info;
    REQUIRE(one.api->memory_info(one.device, &info) == MOIRA_OK);
    CHECK(info.bytes_total == h100.memory_bytes);
    CHECK(info.bytes_free == h100.memory_bytes / 2);
}
