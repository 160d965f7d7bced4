// Holds: all experts stay where they are, and a resize waits.
#include "core/experts/residency_hold.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <atomic>
#include <doctest/doctest.h>
#include <numeric>
#include <thread>

using namespace moira;

namespace {

struct full_store {
    fake_slab_source source;
    expert_store_options options;
    std::unique_ptr<expert_store> store;

    full_store() {
        options = small_store(source, 1);
        slots = static_cast<std::uint64_t>(options.moe_layers) * static_cast<std::uint64_t>(options.experts);
        options = small_store(source, slots);
        auto made = expert_store::create(options, source, nullptr);
        REQUIRE(made);
        store = std::move(*made);
    }
    void load(std::int32_t layer) {
        std::vector<std::int32_t> experts(static_cast<std::size_t>(options.experts));
        std::iota(experts.begin(), experts.end(), 0);
        auto lease = store->acquire(layer, experts);
        REQUIRE(lease);
        for (bool more = true; more;) {
            const auto some = lease->wait_some();
            REQUIRE(some);
            more = !some->empty();
        }
    }
    void load_all() {
        for (std::int32_t layer = 0; layer < options.moe_layers; ++layer)
            load(layer);
    }
    std::uint64_t slots = 0;
};

} // namespace

TEST_CASE("a store holds its residents when they are all there, and knows when a table has changed") {
    full_store full;
    CHECK_FALSE(full.store->hold_residents());
    full.load(0);
    CHECK_FALSE(full.store->hold_residents());
    full.load_all();
    std::uint64_t version = 0;
    {
        const auto first = full.store->hold_residents();
        const auto second = full.store->hold_residents();
        REQUIRE(first);
        REQUIRE(second);
        version = first->table_version();
        CHECK(second->table_version() == version);
    }
    full.load(0); // all hits
    CHECK(full.store->hold_residents()->table_version() == version);
    REQUIRE(full.store->resize((full.slots - 1) * full.source.slab_bytes()));
    CHECK_FALSE(full.store->hold_residents());
    REQUIRE(full.store->resize(full.slots * full.source.slab_bytes()));
    CHECK_FALSE(full.store->hold_residents());
    full.load_all();
    CHECK(full.store->hold_residents()->table_version() != version);
}

TEST_CASE("a resize waits for the last hold, no new one begins before it, and waves go on meanwhile") {
    full_store full;
    full.load_all();
    auto first = full.store->hold_residents();
    auto second = full.store->hold_residents();
    REQUIRE(second);
    std::atomic<bool> resized{false};
    std::thread resizer([&] {
        CHECK(full.store->resize((full.slots - 1) * full.source.slab_bytes()));
        resized = true;
    });
    while (full.store->hold_residents()) // until the resize waits
        std::this_thread::yield();
    full.load(1);
    first.reset();
    auto kept = std::move(*second);
    CHECK_FALSE(resized);
    CHECK(full.store->statistics().resident == full.slots);
    { const auto ends = std::move(kept); }
    resizer.join();
    CHECK(full.store->statistics().resident == full.slots - 1);
}
