// What the fake device says of work whose order nothing has settled: planted faults, and the same work done right.
#include "plugins/plugin_host.hpp"
#include "tests/plugins/fake_controls.hpp"

#include <array>
#include <cstring>
#include <doctest/doctest.h>
#include <vector>

using namespace moira;

namespace {

constexpr std::uint32_t width = 32; // hidden and inner size of the expert

/// One slot with one expert, a queue that computes with it and a stream that copies into it.
struct slot_room {
    compute_pool pool{{1, 0}};
    std::unique_ptr<plugin_host> host;
    const moira_plugin_api* api = nullptr;
    moira_device* device = nullptr;
    moira_stream *queue = nullptr, *copies = nullptr;
    moira_event* event = nullptr;
    moira_buffer *slot = nullptr, *tables = nullptr;
    moira_op* op = nullptr;
    moira_buffer* workspace = nullptr;
    std::vector<std::byte> slab;
    moira_expert_entry entry{};

    slot_room() {
        auto opened = plugin_host::open({{MOIRA_TEST_PLUGINS}, "fake_device", "fake"}, pool);
        REQUIRE(opened);
        host = std::move(*opened);
        api = host->memory_provider().api;
        device = host->memory_provider().device;
        REQUIRE(api->stream_create(device, &queue) == MOIRA_OK);
        REQUIRE(api->stream_create(device, &copies) == MOIRA_OK);
        REQUIRE(api->event_create(device, &event) == MOIRA_OK);
        prepare();
        REQUIRE(api->buffer_create(device, slab.size(), 64, &slot) == MOIRA_OK);
        REQUIRE(api->buffer_create(device, 4096 + width * sizeof(float) * 2, 64, &tables) == MOIRA_OK);
        entry.address = reinterpret_cast<std::uintptr_t>(api->buffer_address(slot));
        entry.generation = 1;
        const moira_expert_group group{0, 1, 0, 1};
        const moira_expert_pair pair{0, 0};
        const std::array<float, width> row{};
        put(0, &entry, sizeof entry);
        put(64, &group, sizeof group);
        put(128, &pair, sizeof pair);
        put(4096, row.data(), sizeof row);
        REQUIRE(load(queue) == MOIRA_OK);
        REQUIRE(api->stream_synchronize(queue) == MOIRA_OK);
    }
    ~slot_room() {
        api->op_destroy(op);
        for (moira_buffer* buffer : {slot, tables, workspace})
            api->buffer_destroy(buffer);
        api->event_destroy(event);
        api->stream_destroy(copies);
        api->stream_destroy(queue);
        CHECK(controls().live_objects(device) == 0);
    }
    slot_room(const slot_room&) = delete;
    slot_room& operator=(const slot_room&) = delete;

    void prepare() {
        moira_expert_ffn_desc desc{};
        desc.header = {sizeof desc, MOIRA_OP_EXPERT_FFN, 1};
        desc.hidden = desc.inner = width;
        desc.experts = 1;
        desc.quantization.weight_type = MOIRA_TYPE_BF16;
        std::uint64_t workspace_bytes = 0;
        REQUIRE(api->op_prepare(device, &desc.header, &op, &workspace_bytes) == MOIRA_OK);
        if (workspace_bytes > 0)
            REQUIRE(api->buffer_create(device, workspace_bytes, 64, &workspace) == MOIRA_OK);
        moira_pack_desc packed{};
        packed.struct_size = sizeof packed;
        packed.kind = MOIRA_PACK_EXPERT;
        packed.n = packed.k = width;
        packed.compute = MOIRA_COMPUTE_AUTO;
        packed.quantization = desc.quantization;
        moira_pack_info info{};
        info.struct_size = sizeof info;
        REQUIRE(api->pack_query(device, &packed, &info) == MOIRA_OK);
        slab.resize(info.packed_bytes);
    }
    std::byte* at(std::size_t offset) const { return static_cast<std::byte*>(api->buffer_address(tables)) + offset; }
    void put(std::size_t offset, const void* from, std::size_t bytes) {
        REQUIRE(api->copy_to_device(queue, at(offset), from, bytes) == MOIRA_OK);
        REQUIRE(api->stream_synchronize(queue) == MOIRA_OK);
    }
    moira_status load(moira_stream* stream) {
        return api->copy_to_device(stream, api->buffer_address(slot), slab.data(), slab.size());
    }
    moira_status compute() {
        moira_expert_ffn_args args{};
        args.groups = args.pairs = 1;
        args.x = reinterpret_cast<float*>(at(4096));
        args.x_stride = args.out_stride = width;
        args.table = reinterpret_cast<moira_expert_entry*>(at(0));
        args.group_table = reinterpret_cast<moira_expert_group*>(at(64));
        args.pair_table = reinterpret_cast<moira_expert_pair*>(at(128));
        args.out = reinterpret_cast<float*>(at(4096 + width * sizeof(float)));
        args.workspace = workspace == nullptr ? nullptr : api->buffer_address(workspace);
        const moira_launch list{op, &args};
        return api->launch(queue, &list, 1);
    }
    void finish() {
        REQUIRE(api->stream_synchronize(copies) == MOIRA_OK);
        REQUIRE(api->stream_synchronize(queue) == MOIRA_OK);
    }
    std::vector<std::uint32_t> hazards() const {
        std::vector<std::uint32_t> kinds;
        moira_fake_hazard met{};
        for (std::uint64_t index = 0; controls().hazard_at(device, index, &met) != 0; ++index) {
            kinds.push_back(met.kind);
            CHECK(met.address == reinterpret_cast<std::uintptr_t>(api->buffer_address(slot)));
        }
        CHECK(controls().hazard_count(device) == kinds.size());
        return kinds;
    }
};

using kinds = std::vector<std::uint32_t>;

} // namespace

TEST_CASE("a copy into a slot that a queued op still reads is a hazard, however the two happen to run") {
    for (const bool copy_runs_first : {true, false}) {
        CAPTURE(copy_runs_first);
        slot_room gpu;
        REQUIRE(gpu.compute() == MOIRA_OK);
        REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
        REQUIRE(gpu.api->stream_synchronize(copy_runs_first ? gpu.copies : gpu.queue) == MOIRA_OK);
        gpu.finish();
        CHECK(gpu.hazards() == kinds{MOIRA_FAKE_HAZARD_COPY_OVERTAKES_READER});
    }
}

TEST_CASE("a copy that waits for the reader, by event or by the host, is none") {
    slot_room gpu;
    REQUIRE(gpu.compute() == MOIRA_OK);
    REQUIRE(gpu.api->event_record(gpu.queue, gpu.event) == MOIRA_OK);
    REQUIRE(gpu.api->event_wait(gpu.copies, gpu.event) == MOIRA_OK);
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    gpu.finish();
    REQUIRE(gpu.compute() == MOIRA_OK);
    REQUIRE(gpu.api->stream_synchronize(gpu.queue) == MOIRA_OK);
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    gpu.finish();
    REQUIRE(gpu.compute() == MOIRA_OK);
    REQUIRE(gpu.api->event_record(gpu.queue, gpu.event) == MOIRA_OK);
    std::uint32_t done = 0;
    REQUIRE(gpu.api->event_done(gpu.event, &done) == MOIRA_OK);
    REQUIRE(done == 1);
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    gpu.finish();
    CHECK(gpu.hazards().empty());
}

TEST_CASE("an event that was recorded before the reader settles nothing") {
    slot_room gpu;
    REQUIRE(gpu.api->event_record(gpu.queue, gpu.event) == MOIRA_OK);
    REQUIRE(gpu.compute() == MOIRA_OK);
    REQUIRE(gpu.api->event_wait(gpu.copies, gpu.event) == MOIRA_OK);
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    gpu.finish();
    CHECK(gpu.hazards() == kinds{MOIRA_FAKE_HAZARD_COPY_OVERTAKES_READER});
}

TEST_CASE("a reader that does not wait for the copy is a hazard, one that does is none") {
    slot_room gpu;
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    REQUIRE(gpu.api->event_record(gpu.copies, gpu.event) == MOIRA_OK);
    REQUIRE(gpu.api->event_wait(gpu.queue, gpu.event) == MOIRA_OK);
    REQUIRE(gpu.compute() == MOIRA_OK);
    gpu.finish();
    CHECK(gpu.hazards().empty());
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    REQUIRE(gpu.compute() == MOIRA_OK);
    gpu.finish();
    CHECK(gpu.hazards() == kinds{MOIRA_FAKE_HAZARD_READER_OVERTAKES_COPY});
}

TEST_CASE("two copies into one slot from two streams are a hazard") {
    slot_room gpu;
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    REQUIRE(gpu.load(gpu.queue) == MOIRA_OK);
    gpu.finish();
    CHECK(gpu.hazards() == kinds{MOIRA_FAKE_HAZARD_TWO_COPIES});
}

TEST_CASE("a slot given back under its reader is a hazard, one that the host has waited for is none") {
    slot_room gpu;
    moira_buffer* other = nullptr;
    REQUIRE(gpu.api->buffer_create(gpu.device, gpu.slab.size(), 64, &other) == MOIRA_OK);
    REQUIRE(gpu.compute() == MOIRA_OK);
    REQUIRE(gpu.api->stream_synchronize(gpu.queue) == MOIRA_OK);
    gpu.api->buffer_destroy(other);
    CHECK(gpu.hazards().empty());
    REQUIRE(gpu.compute() == MOIRA_OK);
    const auto address = gpu.entry.address;
    gpu.api->buffer_destroy(gpu.slot);
    gpu.slot = nullptr;
    moira_fake_hazard met{};
    REQUIRE(controls().hazard_at(gpu.device, 0, &met) == 1);
    CHECK(met.kind == MOIRA_FAKE_HAZARD_FREED);
    CHECK(met.address == address);
}

TEST_CASE("a table entry of another generation sets the error word instead of being read") {
    slot_room gpu;
    gpu.entry.generation = 2;
    gpu.put(0, &gpu.entry, sizeof gpu.entry);
    REQUIRE(gpu.compute() == MOIRA_OK);
    CHECK(gpu.api->stream_synchronize(gpu.queue) == MOIRA_STEP_ERROR);
    moira_error_word word{};
    REQUIRE(gpu.api->stream_error(gpu.queue, &word) == MOIRA_OK);
    CHECK(word.code == MOIRA_ERROR_EXPERT_STALE);
}

TEST_CASE("copies fail, and take the device with them, when told") {
    slot_room gpu;
    controls().fail_copy(gpu.device, 2);
    CHECK(gpu.load(gpu.copies) == MOIRA_OK);
    CHECK(gpu.load(gpu.copies) == MOIRA_LAUNCH_FAILED);
    CHECK(gpu.load(gpu.copies) == MOIRA_OK);
    controls().lose_device_at_copy(gpu.device, 1);
    CHECK(gpu.load(gpu.copies) == MOIRA_DEVICE_LOST);
    CHECK(gpu.compute() == MOIRA_DEVICE_LOST);
}

TEST_CASE("copies may take longer than what computes, and both travel at the same time") {
    slot_room gpu;
    controls().set_copy_latency_us(gpu.device, 20'000);
    REQUIRE(gpu.load(gpu.copies) == MOIRA_OK);
    REQUIRE(gpu.api->event_record(gpu.copies, gpu.event) == MOIRA_OK);
    std::uint32_t done = 1;
    REQUIRE(gpu.api->event_done(gpu.event, &done) == MOIRA_OK);
    CHECK(done == 0);
    REQUIRE(gpu.api->stream_synchronize(gpu.copies) == MOIRA_OK);
    REQUIRE(gpu.api->event_done(gpu.event, &done) == MOIRA_OK);
    CHECK(done == 1);
}
