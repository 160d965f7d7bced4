// Graphs of a CUDA plugin, on a scripted CUDA.
#include "tests/plugins/scripted_session.hpp"

#include <functional>

using namespace moira;

namespace {

/// A graph of `launches` launches of the session's op.
moira_graph* record(scripted_session& one, uint32_t launches) {
    REQUIRE(one.api->graph_begin(one.stream) == MOIRA_OK);
    for (uint32_t i = 0; i < launches; ++i)
        REQUIRE(one.launch() == MOIRA_OK);
    moira_graph* graph = nullptr;
    REQUIRE(one.api->graph_end(one.stream, &graph) == MOIRA_OK);
    REQUIRE(graph != nullptr);
    CHECK(scripted_cuda().spoilt_captures == 0);
    return graph;
}

moira_error_word finish(scripted_session& one) {
    moira_error_word word{};
    const moira_status status = one.api->stream_synchronize(one.stream);
    REQUIRE(one.api->stream_error(one.stream, &word) == MOIRA_OK);
    CHECK((status == MOIRA_STEP_ERROR) == (word.code != MOIRA_ERROR_NONE));
    return word;
}

std::vector<float> with_negative_row(size_t row) {
    std::vector<float> values = sixteen;
    values[row * 4] = -1;
    return values;
}

} // namespace

TEST_CASE("a graph runs nothing while it is recorded, and what its memory holds when it is replayed") {
    scripted_session one;
    one.open_all();
    REQUIRE(one.upload(sixteen) == MOIRA_OK);
    moira_graph* graph = record(one, 1);
    CHECK(finish(one).code == MOIRA_ERROR_NONE);
    CHECK(one.out[0] != 1);
    for (const float first : {0.0f, 40.0f}) {
        std::vector<float> values = sixteen;
        values[0] = first;
        REQUIRE(one.upload(values) == MOIRA_OK);
        REQUIRE(one.api->graph_launch(one.stream, graph) == MOIRA_OK);
        CHECK(finish(one).code == MOIRA_ERROR_NONE);
        CHECK(one.out[0] == first + 1);
        CHECK(one.out[15] == 16);
    }
    one.api->graph_destroy(graph);
}

TEST_CASE("the error of a replay stands where the graph was launched, and is seen once") {
    scripted_session one;
    one.open_all();
    moira_graph* graph = record(one, 2);
    // In front of the graph row 3, in it row 1, behind it row 0.
    for (const size_t clean : {0U, 1U, 2U}) {
        CAPTURE(clean);
        REQUIRE(one.upload(clean > 0 ? sixteen : with_negative_row(3)) == MOIRA_OK);
        REQUIRE(one.launch() == MOIRA_OK);
        REQUIRE(one.upload(clean > 1 ? sixteen : with_negative_row(1)) == MOIRA_OK);
        REQUIRE(one.api->graph_launch(one.stream, graph) == MOIRA_OK);
        REQUIRE(one.upload(with_negative_row(0)) == MOIRA_OK);
        REQUIRE(one.launch() == MOIRA_OK);
        const moira_error_word word = finish(one);
        CHECK(word.op == MOIRA_OP_RMSNORM);
        CHECK(word.row == (clean == 0 ? 3 : clean == 1 ? 1 : 0));
        CHECK(finish(one).code == MOIRA_ERROR_NONE);
    }
    // Replayed twice in a step: the first one's error is not lost, though both write the same slots.
    REQUIRE(one.upload(with_negative_row(2)) == MOIRA_OK);
    REQUIRE(one.api->graph_launch(one.stream, graph) == MOIRA_OK);
    REQUIRE(one.upload(with_negative_row(1)) == MOIRA_OK);
    REQUIRE(one.api->graph_launch(one.stream, graph) == MOIRA_OK);
    CHECK(finish(one).row == 2);
    // A graph that goes before its step is over leaves its error.
    REQUIRE(one.api->graph_launch(one.stream, graph) == MOIRA_OK);
    one.api->graph_destroy(graph);
    CHECK(finish(one).row == 1);
}

TEST_CASE("whatever a graph cannot hold is refused before CUDA hears of it, and the graph is none") {
    scripted_session one;
    one.open_all();
    moira_event* event = nullptr;
    REQUIRE(one.api->event_create(one.device, &event) == MOIRA_OK);
    moira_graph* graph = nullptr;
    moira_buffer* buffer = nullptr;
    moira_op* op = nullptr;
    uint64_t workspace = 0;
    const moira_rmsnorm_desc desc = scripted_session::norm(4);
    float host = 0;
    const std::vector<std::function<moira_status()>> wrong = {
        [&] { return one.api->stream_synchronize(one.stream); },
        [&] { return one.upload(sixteen); },
        [&] { return one.api->copy_to_host(one.stream, &host, one.out, sizeof host); },
        [&] { return one.api->event_record(one.stream, event); },
        [&] { return one.api->event_wait(one.stream, event); },
        [&] { return one.api->buffer_create(one.device, 64, 64, &buffer); },
        [&] { return one.api->host_buffer_create(one.device, 64, 64, &buffer); },
        [&] { return one.api->op_prepare(one.device, &desc.header, &op, &workspace); },
        [&] { return one.api->graph_begin(one.stream); },
    };
    for (size_t i = 0; i < wrong.size(); ++i) {
        CAPTURE(i);
        REQUIRE(one.api->graph_begin(one.stream) == MOIRA_OK);
        REQUIRE(one.launch() == MOIRA_OK);
        CHECK(wrong[i]() == MOIRA_INVALID_ARGUMENT);
        CHECK(scripted_cuda().spoilt_captures == 0);
        CHECK(one.api->graph_end(one.stream, &graph) == MOIRA_INVALID_ARGUMENT);
        CHECK(graph == nullptr);
        CHECK(scripted_cuda().graphs.empty());
        CHECK(finish(one).code == MOIRA_ERROR_NONE); // the stream works as before
    }
    CHECK(one.api->graph_end(one.stream, &graph) == MOIRA_INVALID_ARGUMENT);
    one.api->event_destroy(event);
}

TEST_CASE("a graph has an error slot for each launch, and no more launches than slots") {
    scripted_session one;
    one.open_all();
    moira_graph* graph = record(one, error_slots);
    REQUIRE(one.upload(sixteen) == MOIRA_OK);
    REQUIRE(one.api->graph_launch(one.stream, graph) == MOIRA_OK);
    CHECK(finish(one).code == MOIRA_ERROR_NONE);
    one.api->graph_destroy(graph);
    REQUIRE(one.api->graph_begin(one.stream) == MOIRA_OK);
    for (uint32_t i = 0; i < error_slots; ++i)
        REQUIRE(one.launch() == MOIRA_OK);
    CHECK(one.launch() == MOIRA_INVALID_ARGUMENT);
    CHECK(one.api->graph_end(one.stream, &graph) == MOIRA_INVALID_ARGUMENT);
}

TEST_CASE(
    "whatever call fails while a graph is made, nothing of it is left; one that is recorded goes with its stream") {
    for (const char* call : {"allocate", "allocate_host", "fill", "capture_begin", "capture_end"}) {
        CAPTURE(call);
        scripted_session one;
        one.open_all();
        const auto memory = scripted_cuda().device_memory.size() + scripted_cuda().host_memory.size();
        scripted_cuda().fail_next[call] = 2;
        moira_graph* graph = nullptr;
        if (one.api->graph_begin(one.stream) == MOIRA_OK)
            CHECK(one.api->graph_end(one.stream, &graph) == MOIRA_OUT_OF_MEMORY);
        CHECK(graph == nullptr);
        CHECK(scripted_cuda().fail_next.empty());
        CHECK(scripted_cuda().device_memory.size() + scripted_cuda().host_memory.size() == memory);
        CHECK(one.launch() == MOIRA_OK);
    }
    scripted_session one;
    one.open_all();
    REQUIRE(one.api->graph_begin(one.stream) == MOIRA_OK);
}

TEST_CASE("a graph is replayed on the stream that recorded it, or not at all") {
    scripted_session one;
    one.open_all();
    moira_graph* graph = record(one, 1);
    moira_stream* other = nullptr;
    REQUIRE(one.api->stream_create(one.device, &other) == MOIRA_OK);
    CHECK(one.api->graph_launch(other, graph) == MOIRA_INVALID_ARGUMENT);
    CHECK(one.api->graph_launch(one.stream, nullptr) == MOIRA_INVALID_ARGUMENT);
    scripted_cuda().fail_next["graph_launch"] = 719;
    CHECK(one.api->graph_launch(one.stream, graph) == MOIRA_DEVICE_LOST);
    CHECK(one.api->graph_launch(one.stream, graph) == MOIRA_DEVICE_LOST);
    one.api->graph_destroy(graph);
    one.api->stream_destroy(other);
}
