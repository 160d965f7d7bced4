// Recording and replaying on the fake device, and the host's mistakes that it finds.
#include "plugins/plugin_host.hpp"
#include "tests/plugins/fake_controls.hpp"

#include <deque>
#include <doctest/doctest.h>
#include <functional>
#include <string>
#include <thread>
#include <vector>

using namespace moira;

namespace {

/// One op, embedding of 4 tokens of 2 floats, that reads `ids` and writes `out`; and a graph of it.
struct recorder {
    compute_pool pool{{1, 0}};
    std::unique_ptr<plugin_host> host;
    const moira_plugin_api* api = nullptr;
    moira_device* device = nullptr;
    moira_stream* stream = nullptr;
    moira_buffer* memory = nullptr;
    moira_op* op = nullptr;
    moira_graph* graph = nullptr;
    float* table = nullptr;
    std::int32_t* ids = nullptr;
    float* out = nullptr;
    std::deque<std::vector<std::int32_t>> in_flight;

    recorder() {
        auto opened = plugin_host::open({{MOIRA_TEST_PLUGINS}, "fake_device", "fake"}, pool);
        REQUIRE(opened);
        host = std::move(*opened);
        api = host->memory_provider().api;
        device = host->memory_provider().device;
        REQUIRE(api->stream_create(device, &stream) == MOIRA_OK);
        create_memory();
        create_op();
        const std::vector<float> values = {0, 1, 10, 11, 20, 21, 30, 31};
        REQUIRE(api->copy_to_device(stream, table, values.data(), values.size() * sizeof(float)) == MOIRA_OK);
        REQUIRE(api->stream_synchronize(stream) == MOIRA_OK);
    }
    ~recorder() {
        api->graph_destroy(graph);
        api->op_destroy(op);
        api->buffer_destroy(memory);
        api->stream_destroy(stream);
        CHECK(controls().live_objects(device) == 0);
    }
    recorder(const recorder&) = delete;
    recorder& operator=(const recorder&) = delete;

    void create_memory() {
        REQUIRE(api->buffer_create(device, 4096, 64, &memory) == MOIRA_OK);
        table = static_cast<float*>(api->buffer_address(memory));
        ids = reinterpret_cast<std::int32_t*>(table + 256);
        out = table + 512;
    }
    void create_op() {
        moira_embedding_desc desc{};
        desc.header = {sizeof desc, MOIRA_OP_EMBEDDING, 4};
        desc.vocabulary = 4;
        desc.width = 2;
        desc.weight_type = MOIRA_TYPE_F32;
        std::uint64_t workspace_bytes = 0;
        REQUIRE(api->op_prepare(device, &desc.header, &op, &workspace_bytes) == MOIRA_OK);
    }
    moira_status launch() {
        moira_embedding_args args{};
        args.rows = 2;
        args.token_ids = ids;
        args.table = table;
        args.out = out;
        const moira_launch list{op, &args};
        return api->launch(stream, &list, 1);
    }
    void record(int launches = 1) {
        REQUIRE(api->graph_begin(stream) == MOIRA_OK);
        for (int i = 0; i < launches; ++i)
            REQUIRE(launch() == MOIRA_OK);
        REQUIRE(api->graph_end(stream, &graph) == MOIRA_OK);
    }
    moira_status upload(const std::vector<std::int32_t>& wanted) {
        const auto& tokens = in_flight.emplace_back(wanted); // queued copies read it later
        return api->copy_to_device(stream, ids, tokens.data(), tokens.size() * sizeof(std::int32_t));
    }
    moira_status replay() { return api->graph_launch(stream, graph); }
    std::uint64_t calls_of(std::uint32_t kind) const {
        std::uint64_t found = 0;
        moira_fake_call call{};
        for (std::uint64_t i = 0; controls().call_at(device, i, &call) == 1; ++i)
            found += call.kind == kind ? 1 : 0;
        return found;
    }
};

} // namespace

TEST_CASE("a recorded launch runs when it is replayed, on what its memory holds then") {
    recorder gpu;
    gpu.record(2);
    REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    CHECK(gpu.calls_of(MOIRA_FAKE_EXECUTE) == 0);
    const std::vector<std::int32_t> first = {3, 1}, second = {2, 0};
    for (const auto& tokens : {first, second}) {
        REQUIRE(gpu.upload(tokens) == MOIRA_OK);
        REQUIRE(gpu.replay() == MOIRA_OK);
        REQUIRE(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
        CHECK(gpu.out[0] == static_cast<float>(tokens[0] * 10));
        CHECK(gpu.out[3] == static_cast<float>(tokens[1] * 10 + 1));
    }
    CHECK(gpu.calls_of(MOIRA_FAKE_EXECUTE) == 4);
    CHECK(gpu.calls_of(MOIRA_FAKE_GRAPH_LAUNCH) == 2);
}

TEST_CASE("an error met in a replay is the step's error word") {
    recorder gpu;
    gpu.record();
    const std::vector<std::int32_t> wrong = {1, 4};
    REQUIRE(gpu.upload(wrong) == MOIRA_OK);
    REQUIRE(gpu.replay() == MOIRA_OK);
    CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_STEP_ERROR);
    moira_error_word word{};
    REQUIRE(gpu.api->stream_error(gpu.stream, &word) == MOIRA_OK);
    CHECK(word.code == MOIRA_ERROR_TOKEN_OUT_OF_RANGE);
    CHECK(word.row == 1);
}

TEST_CASE("what a graph cannot hold is refused and spoils it; the stream works as before") {
    recorder gpu;
    moira_event* event = nullptr;
    REQUIRE(gpu.api->event_create(gpu.device, &event) == MOIRA_OK);
    moira_buffer* buffer = nullptr;
    moira_op* op = nullptr;
    std::uint64_t workspace = 0;
    moira_rmsnorm_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_RMSNORM, 1};
    desc.width = 4;
    float host = 0;
    const std::vector<std::function<moira_status()>> wrong = {
        [&] { return gpu.api->stream_synchronize(gpu.stream); },
        [&] {
            return gpu.upload({0, 1});
        },
        [&] { return gpu.api->copy_to_host(gpu.stream, &host, gpu.out, sizeof host); },
        [&] { return gpu.api->event_record(gpu.stream, event); },
        [&] { return gpu.api->event_wait(gpu.stream, event); },
        [&] { return gpu.api->buffer_create(gpu.device, 64, 64, &buffer); },
        [&] { return gpu.api->host_buffer_create(gpu.device, 64, 64, &buffer); },
        [&] { return gpu.api->op_prepare(gpu.device, &desc.header, &op, &workspace); },
        [&] { return gpu.api->graph_begin(gpu.stream); },
    };
    for (std::size_t i = 0; i < wrong.size(); ++i) {
        CAPTURE(i);
        REQUIRE(gpu.api->graph_begin(gpu.stream) == MOIRA_OK);
        CHECK(wrong[i]() == MOIRA_INVALID_ARGUMENT);
        CHECK(gpu.api->graph_end(gpu.stream, &gpu.graph) == MOIRA_INVALID_ARGUMENT);
        CHECK(gpu.graph == nullptr);
        CHECK(gpu.api->stream_synchronize(gpu.stream) == MOIRA_OK);
    }
    CHECK(gpu.api->graph_end(gpu.stream, &gpu.graph) == MOIRA_INVALID_ARGUMENT);
    gpu.api->event_destroy(event);
}

TEST_CASE("another thread may allocate while a graph is recorded") {
    recorder gpu;
    REQUIRE(gpu.api->graph_begin(gpu.stream) == MOIRA_OK);
    std::thread([&] {
        moira_buffer* buffer = nullptr;
        CHECK(gpu.api->buffer_create(gpu.device, 64, 64, &buffer) == MOIRA_OK);
        gpu.api->buffer_destroy(buffer);
    }).join();
    CHECK(gpu.api->graph_end(gpu.stream, &gpu.graph) == MOIRA_OK);
}

TEST_CASE("a replay of an op or of memory that is gone is found, also when something new lies there") {
    for (const bool memory : {false, true}) {
        CAPTURE(memory);
        recorder gpu;
        gpu.record();
        REQUIRE(gpu.upload({0, 1}) == MOIRA_OK);
        REQUIRE(gpu.replay() == MOIRA_OK);
        if (memory) {
            gpu.api->buffer_destroy(gpu.memory);
            gpu.create_memory();
        } else {
            gpu.api->op_destroy(gpu.op);
            gpu.create_op();
        }
        CHECK(gpu.replay() == MOIRA_INVALID_ARGUMENT);
    }
}

TEST_CASE("a replay fails as scripted, like any launch") {
    recorder gpu;
    gpu.record();
    REQUIRE(gpu.upload({0, 1}) == MOIRA_OK);
    controls().fail_launch(gpu.device, 1);
    CHECK(gpu.replay() == MOIRA_LAUNCH_FAILED);
    CHECK(gpu.replay() == MOIRA_OK);
    controls().lose_device(gpu.device, 1);
    CHECK(gpu.replay() == MOIRA_DEVICE_LOST);
    CHECK(gpu.replay() == MOIRA_DEVICE_LOST);
}
