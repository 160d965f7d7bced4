#include "plugins/plugin_host.hpp"
#include "tests/plugins/fake_controls.hpp"

#include <chrono>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>
#include <string>
#include <vector>

using namespace moira;

namespace {

/// The fake device with a stream, and one op: embedding of a table with 4 tokens of 2 floats each.
struct fake {
    compute_pool pool{{1, 0}};
    std::unique_ptr<plugin_host> host;
    const moira_plugin_api* api = nullptr;
    moira_device* device = nullptr;
    moira_stream* stream = nullptr;
    moira_buffer* memory = nullptr;
    moira_op* op = nullptr;

    // In device memory.
    float* table = nullptr;
    std::int32_t* ids = nullptr;
    float* out = nullptr;

    fake() {
        auto opened = plugin_host::open({{MOIRA_TEST_PLUGINS}, "fake_device", "fake"}, pool);
        REQUIRE(opened);
        host = std::move(*opened);
        api = host->memory_provider().api;
        device = host->memory_provider().device;
        REQUIRE(api->stream_create(device, &stream) == MOIRA_OK);
        REQUIRE(api->buffer_create(device, 4096, 64, &memory) == MOIRA_OK);
        table = static_cast<float*>(api->buffer_address(memory));
        ids = reinterpret_cast<std::int32_t*>(table + 256);
        out = table + 512;
        moira_embedding_desc desc{};
        desc.header = {sizeof desc, MOIRA_OP_EMBEDDING, 4};
        desc.vocabulary = 4;
        desc.width = 2;
        desc.weight_type = MOIRA_TYPE_F32;
        std::uint64_t workspace_bytes = 0;
        REQUIRE(api->op_prepare(device, &desc.header, &op, &workspace_bytes) == MOIRA_OK);
    }
    ~fake() {
        api->op_destroy(op);
        api->buffer_destroy(memory);
        api->stream_destroy(stream);
        CHECK(controls().live_objects(device) == 0);
    }
    fake(const fake&) = delete;
    fake& operator=(const fake&) = delete;

    moira_status upload(const std::vector<float>& values, const std::vector<std::int32_t>& tokens) {
        moira_status status = api->copy_to_device(stream, table, values.data(), values.size() * sizeof(float));
        if (status == MOIRA_OK)
            status = api->copy_to_device(stream, ids, tokens.data(), tokens.size() * sizeof(std::int32_t));
        return status;
    }
    moira_status launch(const void* table_address, std::uint32_t rows = 2) {
        moira_embedding_args args{};
        args.rows = rows;
        args.token_ids = ids;
        args.table = table_address;
        args.out = out;
        const moira_launch list{op, &args};
        return api->launch(stream, &list, 1);
    }
    moira_status launch() { return launch(table); }
    std::vector<moira_fake_call> calls() const {
        std::vector<moira_fake_call> all(controls().call_count(device));
        for (std::size_t i = 0; i < all.size(); ++i)
            REQUIRE(controls().call_at(device, i, &all[i]) == 1);
        return all;
    }
};

const std::vector<float> table_values = {0, 1, 10, 11, 20, 21, 30, 31};
const std::vector<std::int32_t> two_tokens = {3, 1};

} // namespace

TEST_CASE("users' programs never see the fake device, tests find it in its own class") {
    compute_pool pool({1, 0});
    const auto as_cpu = plugin_host::open({{MOIRA_TEST_PLUGINS}, {}, "cpu"}, pool);
    REQUIRE_FALSE(as_cpu);
    CHECK(as_cpu.error().code == errc::op_missing);
    const fake opened;
    CHECK(opened.host->memory_provider().device_class == "fake");
}

TEST_CASE("nothing runs before the stream is synchronised") {
    fake gpu;
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    REQUIRE(gpu.launch() == MOIRA_OK);
    float host_out[4] = {7, 7, 7, 7};
    REQUIRE(gpu.api->copy_to_host(gpu.stream, host_out, gpu.out, sizeof host_out) == MOIRA_OK);
    CHECK(host_out[0] == 7);
    CHECK(std::isnan(gpu.table[0])); // poison of fresh memory
    REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    const float want[4] = {30, 31, 10, 11};
    CHECK(std::memcmp(host_out, want, sizeof want) == 0);
}

TEST_CASE("arguments may change as soon as launch has returned, copied memory may not") {
    fake gpu;
    std::vector<std::int32_t> tokens = {0, 0};
    REQUIRE(gpu.upload(table_values, tokens) == MOIRA_OK);
    REQUIRE(gpu.launch() == MOIRA_OK); // its args are gone by now
    tokens[0] = 3;
    REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    CHECK(gpu.out[0] == 30); // the device read what the host had overwritten
}

TEST_CASE("host addresses are refused where device addresses belong") {
    fake gpu;
    CHECK(gpu.launch(table_values.data()) == MOIRA_INVALID_ARGUMENT);
    float on_host = 0;
    CHECK(gpu.api->copy_to_device(gpu.stream, &on_host, &on_host, sizeof on_host) == MOIRA_INVALID_ARGUMENT);
    CHECK(gpu.api->copy_to_host(gpu.stream, &on_host, gpu.table + 1023, 8) == MOIRA_INVALID_ARGUMENT); // past the end
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
}

TEST_CASE("the nth launch fails when told, alone, and queues nothing") {
    fake gpu;
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    controls().fail_launch(gpu.device, 2);
    CHECK(gpu.launch() == MOIRA_OK);
    CHECK(gpu.launch() == MOIRA_LAUNCH_FAILED);
    CHECK(gpu.launch() == MOIRA_OK);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    int executed = 0;
    for (const moira_fake_call& call : gpu.calls())
        executed += call.kind == MOIRA_FAKE_EXECUTE ? 1 : 0;
    CHECK(executed == 2);
}

TEST_CASE("an injected error word shows after synchronising, and reading clears it") {
    fake gpu;
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    controls().inject_error(gpu.device, MOIRA_OP_EMBEDDING, 2);
    REQUIRE(gpu.launch() == MOIRA_OK);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    REQUIRE(gpu.launch() == MOIRA_OK);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_STEP_ERROR);
    moira_error_word word{};
    REQUIRE(gpu.api->stream_error(gpu.stream, &word) == MOIRA_OK);
    CHECK(word.code == MOIRA_ERROR_INJECTED);
    CHECK(word.op == MOIRA_OP_EMBEDDING);
    REQUIRE(gpu.api->stream_error(gpu.stream, &word) == MOIRA_OK);
    CHECK(word.code == MOIRA_ERROR_NONE);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
}

TEST_CASE("a real error comes before an injected one: the first of a step wins") {
    fake gpu;
    const std::vector<std::int32_t> one_outside = {1, 99};
    REQUIRE(gpu.upload(table_values, one_outside) == MOIRA_OK);
    controls().inject_error(gpu.device, MOIRA_OP_EMBEDDING, 1);
    REQUIRE(gpu.launch() == MOIRA_OK);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_STEP_ERROR);
    moira_error_word word{};
    REQUIRE(gpu.api->stream_error(gpu.stream, &word) == MOIRA_OK);
    CHECK(word.code == MOIRA_ERROR_TOKEN_OUT_OF_RANGE);
    CHECK(word.row == 1);
}

TEST_CASE("a lost device refuses everything, and can still be taken apart") {
    fake gpu;
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    controls().lose_device(gpu.device, 2);
    CHECK(gpu.launch() == MOIRA_OK);
    CHECK(gpu.launch() == MOIRA_DEVICE_LOST);
    CHECK(gpu.launch() == MOIRA_DEVICE_LOST);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_DEVICE_LOST);
    CHECK(gpu.upload(table_values, two_tokens) == MOIRA_DEVICE_LOST);
    moira_buffer* buffer = nullptr;
    CHECK(gpu.api->buffer_create(gpu.device, 64, 64, &buffer) == MOIRA_DEVICE_LOST);
    moira_error_word word{};
    CHECK(gpu.api->stream_error(gpu.stream, &word) == MOIRA_DEVICE_LOST);
    char text[MOIRA_TEXT_BYTES];
    gpu.api->last_error(text, sizeof text);
    CHECK(std::strlen(text) > 0);
}

TEST_CASE("the nth buffer finds no memory, the next one does") {
    fake gpu;
    controls().fail_buffer(gpu.device, 2);
    moira_buffer* buffers[3] = {};
    CHECK(gpu.api->buffer_create(gpu.device, 64, 64, &buffers[0]) == MOIRA_OK);
    CHECK(gpu.api->buffer_create(gpu.device, 64, 64, &buffers[1]) == MOIRA_OUT_OF_MEMORY);
    CHECK(gpu.api->buffer_create(gpu.device, 64, 64, &buffers[2]) == MOIRA_OK);
    gpu.api->buffer_destroy(buffers[0]);
    gpu.api->buffer_destroy(buffers[2]);
}

TEST_CASE("an event is done when the work before it is, which takes the scripted time") {
    fake gpu;
    moira_event* event = nullptr;
    REQUIRE(gpu.api->event_create(gpu.device, &event) == MOIRA_OK);
    std::uint32_t done = 0;
    REQUIRE(gpu.api->event_done(event, &done) == MOIRA_OK);
    CHECK(done == 1); // never recorded
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    constexpr std::uint64_t latency_us = 30000;
    controls().set_latency_us(gpu.device, latency_us);
    const auto start = std::chrono::steady_clock::now();
    REQUIRE(gpu.launch() == MOIRA_OK);
    REQUIRE(gpu.api->event_record(gpu.stream, event) == MOIRA_OK);
    REQUIRE(gpu.api->event_done(event, &done) == MOIRA_OK);
    const auto asked = std::chrono::steady_clock::now();
    if (asked - start < std::chrono::microseconds(latency_us))
        CHECK(done == 0);
    moira_status status = MOIRA_OK;
    while (done == 0 && status == MOIRA_OK)
        status = gpu.api->event_done(event, &done);
    CHECK(status == MOIRA_OK);
    CHECK(std::chrono::steady_clock::now() - start >= std::chrono::microseconds(latency_us));
    CHECK(gpu.out[0] == 30);
    gpu.api->event_destroy(event);
}

TEST_CASE("a stream that waits for an event runs after the other stream's work") {
    fake gpu;
    moira_stream* second = nullptr;
    moira_event* event = nullptr;
    REQUIRE(gpu.api->stream_create(gpu.device, &second) == MOIRA_OK);
    REQUIRE(gpu.api->event_create(gpu.device, &event) == MOIRA_OK);
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    REQUIRE(gpu.launch() == MOIRA_OK);
    REQUIRE(gpu.api->event_record(gpu.stream, event) == MOIRA_OK);
    float host_out = 0;
    REQUIRE(gpu.api->event_wait(second, event) == MOIRA_OK);
    REQUIRE(gpu.api->copy_to_host(second, &host_out, gpu.out, sizeof host_out) == MOIRA_OK);
    REQUIRE(gpu.api->stream_synchronize(second) == MOIRA_OK); // the first stream was never synchronised
    CHECK(host_out == 30);
    gpu.api->event_destroy(event);
    gpu.api->stream_destroy(second);
}

TEST_CASE("without the event, the other stream sees memory as it was") {
    fake gpu;
    moira_stream* second = nullptr;
    REQUIRE(gpu.api->stream_create(gpu.device, &second) == MOIRA_OK);
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    REQUIRE(gpu.launch() == MOIRA_OK);
    float host_out = 0;
    REQUIRE(gpu.api->copy_to_host(second, &host_out, gpu.out, sizeof host_out) == MOIRA_OK);
    REQUIRE(gpu.api->stream_synchronize(second) == MOIRA_OK);
    CHECK(std::isnan(host_out));
    gpu.api->stream_destroy(second);
}

TEST_CASE("an expert outside device memory loses the device, as an illegal address would") {
    fake gpu;
    moira_expert_ffn_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_EXPERT_FFN, 1};
    desc.hidden = desc.inner = 4;
    desc.experts = 1;
    moira_op* experts = nullptr;
    std::uint64_t workspace_bytes = 0;
    REQUIRE(gpu.api->op_prepare(gpu.device, &desc.header, &experts, &workspace_bytes) == MOIRA_OK);
    REQUIRE(workspace_bytes <= 512);
    const std::vector<float> slab_on_host(1024);
    const moira_expert_entry entry{reinterpret_cast<std::uint64_t>(slab_on_host.data()), 1, 0};
    const moira_expert_group group{0, 1, 0, 1};
    const moira_expert_pair pair{0, 0};
    auto* bytes = reinterpret_cast<std::byte*>(gpu.table);
    REQUIRE(gpu.api->copy_to_device(gpu.stream, bytes, &entry, sizeof entry) == MOIRA_OK);
    REQUIRE(gpu.api->copy_to_device(gpu.stream, bytes + 64, &group, sizeof group) == MOIRA_OK);
    REQUIRE(gpu.api->copy_to_device(gpu.stream, bytes + 128, &pair, sizeof pair) == MOIRA_OK);
    moira_expert_ffn_args args{};
    args.groups = args.pairs = 1;
    args.x = reinterpret_cast<float*>(bytes + 256);
    args.x_stride = args.out_stride = 4;
    args.table = reinterpret_cast<moira_expert_entry*>(bytes);
    args.group_table = reinterpret_cast<moira_expert_group*>(bytes + 64);
    args.pair_table = reinterpret_cast<moira_expert_pair*>(bytes + 128);
    args.out = reinterpret_cast<float*>(bytes + 512);
    args.workspace = bytes + 1024;
    const moira_launch list{experts, &args};
    CHECK(gpu.api->launch(gpu.stream, &list, 1) == MOIRA_OK);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_DEVICE_LOST);
    CHECK(gpu.launch() == MOIRA_DEVICE_LOST);
    gpu.api->op_destroy(experts);
}

TEST_CASE("the log tells calls in order, with their amounts, until it is cleared") {
    fake gpu;
    controls().clear_calls(gpu.device);
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    REQUIRE(gpu.launch() == MOIRA_OK);
    REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    const auto calls = gpu.calls();
    REQUIRE(calls.size() == 5);
    CHECK(calls[0].kind == MOIRA_FAKE_COPY_TO_DEVICE);
    CHECK(calls[0].amount == table_values.size() * sizeof(float));
    CHECK(calls[2].kind == MOIRA_FAKE_LAUNCH);
    CHECK(calls[2].op == MOIRA_OP_EMBEDDING);
    CHECK(calls[2].amount == 2);
    CHECK(calls[3].kind == MOIRA_FAKE_EXECUTE);
    CHECK(calls[4].kind == MOIRA_FAKE_SYNCHRONIZE);
    moira_fake_call none{};
    CHECK(controls().call_at(gpu.device, 5, &none) == 0);
    controls().clear_calls(gpu.device);
    CHECK(controls().call_count(gpu.device) == 0);
}

TEST_CASE("objects may be destroyed while work is queued: the work still runs on what it captured") {
    fake gpu;
    REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
    moira_embedding_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_EMBEDDING, 4};
    desc.vocabulary = 4;
    desc.width = 2;
    moira_op* short_lived = nullptr;
    std::uint64_t workspace_bytes = 0;
    REQUIRE(gpu.api->op_prepare(gpu.device, &desc.header, &short_lived, &workspace_bytes) == MOIRA_OK);
    std::swap(gpu.op, short_lived);
    REQUIRE(gpu.launch() == MOIRA_OK);
    std::swap(gpu.op, short_lived);
    gpu.api->op_destroy(short_lived);
    moira_event* event = nullptr;
    REQUIRE(gpu.api->event_create(gpu.device, &event) == MOIRA_OK);
    REQUIRE(gpu.api->event_record(gpu.stream, event) == MOIRA_OK);
    gpu.api->event_destroy(event);
    REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    CHECK(gpu.out[0] == 30);
}

TEST_CASE("the device tells its memory, and a buffer that does not fit is refused") {
    fake gpu;
    moira_memory_info info{};
    info.struct_size = sizeof info;
    controls().set_memory_bytes(gpu.device, 4096 + 1000);
    REQUIRE(gpu.api->memory_info(gpu.device, &info) == MOIRA_OK);
    CHECK(info.bytes_total == 5096);
    CHECK(info.bytes_free == 1000);
    moira_buffer* buffer = nullptr;
    CHECK(gpu.api->buffer_create(gpu.device, 1001, 64, &buffer) == MOIRA_OUT_OF_MEMORY);
    REQUIRE(gpu.api->host_buffer_create(gpu.device, 1001, 64, &buffer) == MOIRA_OK);
    CHECK(gpu.api->copy_to_device(gpu.stream, gpu.api->buffer_address(buffer), gpu.table, 8) == MOIRA_INVALID_ARGUMENT);
    CHECK(gpu.api->copy_to_device(gpu.stream, gpu.table, gpu.api->buffer_address(buffer), 8) == MOIRA_OK);
    gpu.api->buffer_destroy(buffer);
    moira_memory_info short_info{};
    CHECK(gpu.api->memory_info(gpu.device, &short_info) == MOIRA_INVALID_ARGUMENT);
}

TEST_CASE(
    "a slot that a copy stream fills again: behind its last reader's event the reader is right, without it wrong") {
    const std::vector<float> next_values = {50, 51, 60, 61, 70, 71, 80, 81};
    for (const bool ordered : {true, false}) {
        CAPTURE(ordered);
        fake gpu;
        moira_stream* copies = nullptr;
        moira_event* last_reader = nullptr;
        REQUIRE(gpu.api->stream_create(gpu.device, &copies) == MOIRA_OK);
        REQUIRE(gpu.api->event_create(gpu.device, &last_reader) == MOIRA_OK);
        REQUIRE(gpu.upload(table_values, two_tokens) == MOIRA_OK);
        REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
        REQUIRE(gpu.launch() == MOIRA_OK); // will read the slot
        REQUIRE(gpu.api->event_record(gpu.stream, last_reader) == MOIRA_OK);
        if (ordered)
            REQUIRE(gpu.api->event_wait(copies, last_reader) == MOIRA_OK);
        REQUIRE(gpu.api->copy_to_device(copies, gpu.table, next_values.data(), 32) == MOIRA_OK);
        REQUIRE(gpu.api->stream_synchronize(copies) == MOIRA_OK);
        CHECK(gpu.table[0] == 50);
        REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
        CHECK(gpu.out[0] == (ordered ? 30 : 80)); // 80: the copy overtook its reader
        gpu.api->event_destroy(last_reader);
        gpu.api->stream_destroy(copies);
    }
}
