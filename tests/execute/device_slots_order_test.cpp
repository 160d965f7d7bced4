// The order of copies and readers between a store on a device and the queue that computes: done right, and with faults
// planted that must be found.
#include "core/base/checked.hpp"
#include "core/execute/device_expert_tables.hpp"
#include "core/execute/device_slots.hpp"
#include "core/execute/host_tier_source.hpp"
#include "tests/execute/fake_room.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <array>
#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::uint32_t width = 32; // hidden and inner size of the experts

moira_expert_ffn_desc expert_desc() {
    moira_expert_ffn_desc desc{};
    desc.header = {sizeof desc, MOIRA_OP_EXPERT_FFN, 4};
    desc.hidden = desc.inner = width;
    desc.experts = 16;
    desc.quantization.weight_type = MOIRA_TYPE_BF16;
    return desc;
}

std::uint64_t slab_bytes_on(const op_provider& device) {
    moira_pack_desc desc{};
    desc.struct_size = sizeof desc;
    desc.kind = MOIRA_PACK_EXPERT;
    desc.n = desc.k = width;
    desc.compute = MOIRA_COMPUTE_AUTO;
    desc.quantization = expert_desc().quantization;
    moira_pack_info info{};
    info.struct_size = sizeof info;
    REQUIRE(device.api->pack_query(device.device, &desc, &info) == MOIRA_OK);
    return info.packed_bytes;
}

/// Two slots on the device over eight in page-locked memory, and a queue with the expert op.
struct two_tiers {
    fake_room room;
    const op_provider& device = room.host->memory_provider();
    fake_slab_source disk{slab_bytes_on(device)};
    std::unique_ptr<expert_store> host;
    std::unique_ptr<host_tier_source> tier;
    std::unique_ptr<expert_store> store;
    op_set ops{*room.host};
    const prepared_op* op = nullptr;
    std::optional<device_queue> queue;
    device_expert_tables tables;
    device_buffer rows, groups, pairs, out, workspace;
    std::array<moira_expert_group, 2> group_list{};
    std::array<moira_expert_pair, 2> pair_list{{{0, 0}, {0, 1}}};

    two_tiers() {
        auto options = small_store(disk, 8);
        const auto slot_bytes = round_up(disk.slab_bytes(), options.slab_alignment);
        options.budget_bytes = 8 * slot_bytes;
        options.layout_id = 0;
        host = made(expert_store::create(options, disk, nullptr,
                                         make_device_slots(device, slot_place::page_locked, options.slab_alignment)));
        tier = std::make_unique<host_tier_source>(*host, device, disk.slab_bytes());
        options.budget_bytes = 2 * slot_bytes;
        store = made(expert_store::create(options, *tier, nullptr,
                                          make_device_slots(device, slot_place::device, options.slab_alignment)));
        op = made(ops.prepare(expert_desc()));
        queue.emplace(made(device_queue::create(device)));
        tables = made(device_expert_tables::create(device, options.layers, options.experts));
        rows = made(device_buffer::create(device, width * sizeof(float)));
        out = made(device_buffer::create(device, 2 * width * sizeof(float)));
        groups = made(device_buffer::create(device, sizeof group_list));
        pairs = made(device_buffer::create(device, sizeof pair_list));
        workspace = made(device_buffer::create(device, ops.workspace_bytes()));
        const std::array<float, width> zeros{};
        REQUIRE(queue->upload(rows.as<void>(), zeros.data(), sizeof zeros));
        REQUIRE(queue->upload(pairs.as<void>(), pair_list.data(), sizeof pair_list));
        REQUIRE(queue->synchronize());
    }

    template <class T>
    static T made(result<T> what) {
        REQUIRE_MESSAGE(what, what.error().message);
        return std::move(*what);
    }

    expert_lease acquire(std::int32_t layer, std::vector<std::int32_t> experts) {
        auto lease = made(store->acquire(layer, experts));
        REQUIRE(wait_all(lease));
        return lease;
    }

    /// Queues the two experts of the lease.
    result<void> launch(const expert_lease& lease, const moira_expert_entry* table) {
        for (std::size_t index = 0; index < 2; ++index) {
            const auto expert = lease.experts()[index];
            group_list[index] = {static_cast<std::uint32_t>(expert), lease.generation(expert),
                                 static_cast<std::uint32_t>(index), 1};
        }
        if (auto done = queue->upload(groups.as<void>(), group_list.data(), sizeof group_list); !done)
            return done;
        moira_expert_ffn_args args{};
        args.groups = args.pairs = 2;
        args.x = rows.as<float>();
        args.x_stride = args.out_stride = width;
        args.table = table;
        args.group_table = groups.as<moira_expert_group>();
        args.pair_table = pairs.as<moira_expert_pair>();
        args.out = out.as<float>();
        args.workspace = workspace.as<void>();
        return queue->launch({{op, &args}});
    }
};

} // namespace

TEST_CASE("slots on the device are used again only behind their readers, and tables follow") {
    two_tiers at;
    const std::vector<std::vector<std::int32_t>> visits{{0, 1}, {2, 3}, {1, 2}, {4, 0}};
    for (const auto& experts : visits) {
        auto lease = at.acquire(1, experts);
        const auto table = at.tables.refresh(1, *at.store, *at.queue);
        REQUIRE(table);
        REQUIRE(at.launch(lease, *table));
        REQUIRE(at.queue->synchronize());
    }
    CHECK(at.store->statistics().evictions > 0);
    CHECK(at.room.hazards().empty());
}

TEST_CASE("pins that end while a kernel still reads are found: the next copy overtakes it") {
    two_tiers at;
    at.room.hazards_expected = true;
    {
        auto lease = at.acquire(1, {0, 1});
        const auto table = at.tables.refresh(1, *at.store, *at.queue);
        REQUIRE(table);
        REQUIRE(at.launch(lease, *table));
    } // the planted fault: the queue has not been waited for
    const auto next = at.acquire(1, {2, 3});
    static_cast<void>(at.queue->synchronize());
    const auto met = at.room.hazards();
    REQUIRE(met.size() == 2);
    for (const auto kind : met)
        CHECK(kind == MOIRA_FAKE_HAZARD_COPY_OVERTAKES_READER);
}

TEST_CASE("a table that was not brought up to date is found: an empty entry, then a stale one") {
    two_tiers at;
    auto first = at.acquire(1, {0, 1});
    REQUIRE(at.tables.refresh(1, *at.store, *at.queue));
    REQUIRE(at.queue->synchronize());
    first = {};
    auto second = at.acquire(1, {2, 3});
    REQUIRE(at.launch(second, at.tables.table(1))); // the planted fault: no refresh
    auto found = at.queue->synchronize();
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::device_error);
    second = {};
    auto third = at.acquire(1, {1, 0}); // back again, in slots of another generation
    REQUIRE(at.launch(third, at.tables.table(1)));
    found = at.queue->synchronize();
    REQUIRE_FALSE(found);
    CHECK(found.error().message.find("another expert") != std::string::npos);
    // And once it is refreshed, all is well.
    const auto table = at.tables.refresh(1, *at.store, *at.queue);
    REQUIRE(table);
    REQUIRE(at.launch(third, *table));
    CHECK(at.queue->synchronize());
}

TEST_CASE("memory of slots that goes while a kernel reads is found") {
    two_tiers at;
    at.room.hazards_expected = true;
    auto lease = at.acquire(1, {0, 1});
    const auto table = at.tables.refresh(1, *at.store, *at.queue);
    REQUIRE(table);
    REQUIRE(at.launch(lease, *table));
    lease = {};
    at.store.reset();
    const auto met = at.room.hazards();
    REQUIRE(met.size() == 2);
    CHECK(met.front() == MOIRA_FAKE_HAZARD_FREED);
    static_cast<void>(at.queue->synchronize());
}

TEST_CASE("an unchanged table is not copied again, a changed one in its changed part alone") {
    two_tiers at;
    const auto copied = [&](std::int32_t layer) {
        fake_controls().clear_calls(at.room.device);
        REQUIRE(at.tables.refresh(layer, *at.store, *at.queue));
        REQUIRE(at.queue->synchronize());
        std::uint64_t bytes = 0;
        moira_fake_call call{};
        for (std::uint64_t index = 0; fake_controls().call_at(at.room.device, index, &call) != 0; ++index)
            bytes += call.kind == MOIRA_FAKE_COPY_TO_DEVICE ? call.amount : 0;
        return bytes / sizeof(moira_expert_entry);
    };
    auto lease = at.acquire(2, {3, 5});
    CHECK(copied(2) == 16);
    CHECK(copied(2) == 0);
    CHECK(copied(1) == 16);
    lease = {};
    lease = at.acquire(2, {3, 6}); // 6 takes the slot of 5
    CHECK(copied(2) == 2);
}

TEST_CASE("an expert that cannot be read fails its load on the device with the reader's own error") {
    two_tiers at;
    at.disk.fail_next({1, 3}, 3);
    auto lease = two_tiers::made(at.store->acquire(1, std::vector<std::int32_t>{3}));
    const auto failed = wait_all(lease);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == errc::io_error);
    CHECK(at.disk.attempts({1, 3}) == 3); // the host's store has tried again, nobody does so on top of it
    lease = {};
    CHECK(wait_all(lease = two_tiers::made(at.store->acquire(1, std::vector<std::int32_t>{3}))));
}
