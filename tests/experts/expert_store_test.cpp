#include "core/experts/expert_store.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <array>
#include <doctest/doctest.h>
#include <numeric>
#include <unistd.h>

using namespace moira;

namespace {

std::unique_ptr<expert_store> make_store(const expert_store_options& options, slab_source& source) {
    auto store = expert_store::create(options, source, make_lru_policy(false));
    REQUIRE(store);
    return std::move(*store);
}

expert_lease acquire(expert_store& store, std::int32_t layer, const std::vector<std::int32_t>& experts) {
    auto lease = store.acquire(layer, experts);
    REQUIRE(lease);
    return std::move(*lease);
}

void visit(expert_store& store, std::int32_t layer, const std::vector<std::int32_t>& experts) {
    auto lease = acquire(store, layer, experts);
    REQUIRE(wait_all(lease));
}

/// Whether the system lets this process read there, asked without reading.
bool readable(std::uint64_t address) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    const bool written = ::write(ends[1], reinterpret_cast<const void*>(address), 1) == 1;
    ::close(ends[0]);
    ::close(ends[1]);
    return written;
}

std::vector<std::int32_t> as_vector(std::span<const std::int32_t> values) {
    return {values.begin(), values.end()};
}

} // namespace

TEST_CASE("a wave's missing experts are loaded, its table entries shown, and the next visit hits") {
    fake_slab_source source;
    const auto store = make_store(small_store(source, 8), source);
    {
        auto lease = acquire(*store, 1, {5, 3});
        CHECK(as_vector(lease.experts()) == std::vector{5, 3});
        CHECK(lease.resident().empty());
        CHECK(as_vector(lease.missing()) == std::vector{5, 3});
        REQUIRE(wait_all(lease));
        REQUIRE(wait_all(lease)); // again: nothing left to do
        for (const std::int32_t expert : {5, 3}) {
            const moira_expert_entry& entry = store->table(1)[expert];
            CHECK(source.shows(entry, {1, expert}));
            CHECK(entry.generation == lease.generation(expert));
            CHECK(entry.layout_id == 7);
        }
        CHECK(store->table(1)[4].address == 0);
        CHECK(store->table(2)[5].address == 0);
    }
    auto lease = acquire(*store, 1, {3, 9});
    CHECK(as_vector(lease.resident()) == std::vector{3});
    CHECK(as_vector(lease.missing()) == std::vector{9});
    REQUIRE(wait_all(lease));
    const auto counted = store->statistics();
    CHECK(counted.hits == 1);
    CHECK(counted.demand_loads == 3);
    CHECK(counted.demand_bytes == 300);
    CHECK(counted.waves == 2);
    CHECK(counted.resident == 3);
    CHECK(counted.evictions == 0);
    CHECK(counted.hit_rate() == doctest::Approx(0.25));
    CHECK(expert_store_statistics{}.hit_rate() == 0.0);
}

TEST_CASE("residents come first and each part keeps its order; what does not exist is not resident") {
    fake_slab_source source;
    const auto store = make_store(small_store(source, 8), source);
    visit(*store, 1, {2, 7});
    CHECK(store->residents_first(1, std::array{5, 7, 1, 2, 99, -1}) == std::vector{7, 2, 5, 1, 99, -1});
    CHECK(store->residents_first(2, std::array{5, 7}) == std::vector{5, 7});
    CHECK(store->residents_first(9, std::array{5, 7}) == std::vector{5, 7});
}

TEST_CASE("the experts in memory are marked, and no layer that does not exist has any") {
    fake_slab_source source;
    const auto store = make_store(small_store(source, 8), source);
    visit(*store, 1, {2, 7});
    std::vector<std::uint8_t> present(17, 5); // one more than there are experts
    store->mark_residents(1, present);
    std::vector<std::uint8_t> expected(17, 0);
    expected[2] = expected[7] = 1;
    CHECK(present == expected);
    for (const std::int32_t layer : {2, 9, -1}) {
        store->mark_residents(layer, present);
        CHECK(present == std::vector<std::uint8_t>(17, 0));
    }
}

TEST_CASE("everything resident needs neither a load nor a wait") {
    fake_slab_source source;
    auto options = small_store(source, 8);
    options.loader_threads = 0; // nobody but the waiter can load
    const auto store = make_store(options, source);
    visit(*store, 1, {1, 2});
    const double before_s = store->statistics().stall_s;
    for (int repeat = 0; repeat < 100; ++repeat)
        visit(*store, 1, {1, 2});
    CHECK(source.attempts({1, 1}) == 1);
    CHECK(store->statistics().stall_s == before_s);
    CHECK(store->statistics().hits == 200);
}

TEST_CASE("budgets: below top_k refused, below the floor bypass with a notice, never more slots than experts") {
    fake_slab_source source(200); // slots of 256 bytes
    auto options = small_store(source, 0);
    options.budget_bytes = 511;
    const auto refused = expert_store::create(options, source, nullptr);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::budget_too_small);
    CHECK(refused.error().message.find("512") != std::string::npos);

    options.budget_bytes = 512;
    const auto least = make_store(options, source);
    CHECK(least->wave_experts_max() == 2);
    CHECK(least->statistics().bypass);
    CHECK(least->statistics().policy == "bypass");
    CHECK(least->statistics().slots_floor == 6);
    CHECK(least->notices().size() == 1);
    visit(*least, 3, {0, 15});

    options.budget_bytes = 6 * 256;
    const auto floor = make_store(options, source);
    CHECK_FALSE(floor->statistics().bypass);
    CHECK(floor->statistics().policy == "lru");
    CHECK(floor->notices().empty());

    options.budget_bytes = ~0ULL;
    CHECK(make_store(options, source)->statistics().slots == 48);
}

TEST_CASE("options that contradict each other or the source are refused") {
    fake_slab_source source;
    const auto good = small_store(source, 8);
    const auto refused = [&](auto change) {
        auto options = good;
        change(options);
        const auto store = expert_store::create(options, source, nullptr);
        return !store && store.error().code == errc::invalid_argument;
    };
    CHECK(refused([](auto& options) { options.layers = 0; }));
    CHECK(refused([](auto& options) { options.layers = 2'000'000'000; }));
    CHECK(refused([](auto& options) { options.experts = -1; }));
    CHECK(refused([](auto& options) { options.top_k = 17; }));
    CHECK(refused([](auto& options) { options.top_k = 0; }));
    CHECK(refused([](auto& options) { options.moe_layers = 5; }));
    CHECK(refused([](auto& options) { options.slab_bytes = 0; }));
    CHECK(refused([](auto& options) { options.slab_bytes = 100; }));
    CHECK(refused([](auto& options) { options.slab_alignment = 48; }));
    CHECK(refused([](auto& options) { options.loader_threads = 1000; }));
    fake_slab_source absurd(1ULL << 60);
    const auto store = expert_store::create(small_store(absurd, 0), absurd, nullptr);
    REQUIRE_FALSE(store);
    CHECK(store.error().code == errc::invalid_argument);
}

TEST_CASE("waves that cannot be are refused and leave nothing behind") {
    fake_slab_source source;
    const auto store = make_store(small_store(source, 3), source);
    const auto refused = [&](std::int32_t layer, const std::vector<std::int32_t>& experts) {
        const auto lease = store->acquire(layer, experts);
        return !lease && lease.error().code == errc::invalid_argument;
    };
    CHECK(refused(1, {0, 1, 2, 3}));
    CHECK(refused(1, {2, 2}));
    CHECK(refused(1, {16}));
    CHECK(refused(1, {3, -1}));
    CHECK(refused(4, {0}));
    CHECK(refused(-1, {0}));
    CHECK(store->table(4) == nullptr);
    CHECK(store->statistics().waves == 0);
    visit(*store, 1, {2, 3});
    visit(*store, 1, {});
    expert_lease empty;
    CHECK(wait_all(empty));
    CHECK(empty.experts().empty());
}

TEST_CASE("waves as large as all slots follow one another") {
    fake_slab_source source;
    const auto store = make_store(small_store(source, 2), source);
    for (int round = 0; round < 3; ++round)
        for (std::int32_t layer = 1; layer < 4; ++layer)
            for (std::int32_t expert = 0; expert < 16; expert += 2) {
                auto lease = acquire(*store, layer, {expert, expert + 1});
                REQUIRE(wait_all(lease));
                REQUIRE(source.shows(store->table(layer)[expert], {layer, expert}));
                REQUIRE(source.shows(store->table(layer)[expert + 1], {layer, expert + 1}));
            }
    CHECK(store->statistics().resident == 2);
}

TEST_CASE("a cyclic visit of more experts than slots never hits with LRU and does with bypass") {
    fake_slab_source source;
    auto options = small_store(source, 6); // three layers x two experts each: exactly the floor
    const auto cycle = [&](expert_store& store) {
        for (int round = 0; round < 20; ++round)
            for (std::int32_t layer = 1; layer < 4; ++layer)
                for (std::int32_t expert = 0; expert < 4; expert += 2)
                    visit(store, layer, {expert, expert + 1});
    };
    const auto lru = make_store(options, source);
    cycle(*lru);
    CHECK_FALSE(lru->statistics().bypass);
    CHECK(lru->statistics().hits == 0);

    options.budget_bytes = 5 * options.slab_bytes;
    const auto bypass = make_store(options, source);
    cycle(*bypass);
    CHECK(bypass->statistics().bypass);
    CHECK(bypass->statistics().hit_rate() > 0.2);
}

TEST_CASE("a slot that gets another expert gets another generation, and so does an expert that comes back") {
    fake_slab_source source;
    auto options = small_store(source, 2);
    const auto store = make_store(options, source);
    auto lease = acquire(*store, 1, {0, 1});
    REQUIRE(wait_all(lease));
    const std::uint32_t first = lease.generation(0);
    lease = expert_lease();
    auto other = acquire(*store, 1, {2, 3});
    REQUIRE(wait_all(other));
    CHECK(other.generation(2) != first);
    CHECK(other.generation(9) == 0); // not of this wave
    CHECK(store->table(1)[0].address == 0);
    other = expert_lease();
    auto back = acquire(*store, 1, {0});
    REQUIRE(wait_all(back));
    CHECK(back.generation(0) != first);
}

TEST_CASE("a resize up keeps residents and addresses; a resize down gives slots up as their pins end") {
    constexpr std::uint64_t bytes = 128 << 10;
    fake_slab_source source(bytes);
    const auto store = make_store(small_store(source, 4), source);
    auto lease = acquire(*store, 1, {0, 1, 2, 3});
    REQUIRE(wait_all(lease));
    const auto address = store->table(1)[3].address;
    REQUIRE(store->resize(40 * bytes));
    CHECK(store->statistics().slots == 40);
    CHECK_FALSE(store->statistics().bypass);
    CHECK(store->table(1)[3].address == address);
    std::vector<std::int32_t> all(16);
    std::iota(all.begin(), all.end(), 0);
    auto large = acquire(*store, 2, all);
    REQUIRE(wait_all(large));

    REQUIRE(store->resize(3 * bytes));
    CHECK(store->wave_experts_max() == 3);
    CHECK(store->statistics().bypass);
    for (const std::int32_t expert : all)
        CHECK(source.shows(store->table(2)[expert], {2, expert})); // still pinned
    CHECK(source.shows(store->table(1)[3], {1, 3}));
    const auto given_up = store->table(2)[15].address;
    CHECK(readable(given_up));
    large = expert_lease();
    CHECK(store->statistics().resident == 4);
    CHECK_FALSE(readable(given_up)); // its memory is the system's again
    CHECK(readable(address));
    lease = expert_lease();
    CHECK(store->statistics().resident == 3);
    CHECK(store->table(1)[3].address == 0);
    CHECK_FALSE(readable(address));
    visit(*store, 3, {0, 1, 2});

    const auto refused = store->resize(bytes);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::budget_too_small);
    CHECK(store->statistics().slots == 3);
    CHECK(store->statistics().budget_bytes == 3 * bytes);
    REQUIRE(store->resize(16 * bytes));
    visit(*store, 2, all);
    visit(*store, 2, all);
    CHECK(store->statistics().hits >= 16);
}

TEST_CASE("random waves and resizes: what a lease holds is always complete and true, bytes never exceed the budget") {
    fake_slab_source source;
    const auto store = make_store(small_store(source, 9), source);
    std::uint64_t state = 42;
    const auto pick = [&](std::uint64_t bound) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<std::int32_t>((state >> 33) % bound);
    };
    std::uint64_t acquired = 0, waves = 0;
    for (int round = 0; round < 1500; ++round) {
        const std::int32_t layer = 1 + pick(3), first = pick(16);
        std::vector<std::int32_t> wave;
        for (std::int32_t index = 0, size = 1 + pick(2); index < size; ++index)
            wave.push_back((first + index * 5) % 16);
        auto lease = acquire(*store, layer, wave);
        REQUIRE(lease.resident().size() + lease.missing().size() == wave.size());
        for (const std::int32_t expert : lease.resident())
            REQUIRE(source.shows(store->table(layer)[expert], {layer, expert}));
        if (pick(10) != 0) {
            REQUIRE(wait_all(lease));
            for (const std::int32_t expert : wave) {
                REQUIRE(source.shows(store->table(layer)[expert], {layer, expert}));
                REQUIRE(store->table(layer)[expert].generation == lease.generation(expert));
            }
        }
        acquired += wave.size();
        ++waves;
        lease = expert_lease();
        if (pick(50) == 0)
            REQUIRE(store->resize(static_cast<std::uint64_t>(2 + pick(12)) * source.slab_bytes()));
        const auto counted = store->statistics();
        REQUIRE(counted.resident <= counted.slots);
        REQUIRE(counted.slots * source.slab_bytes() <= counted.budget_bytes);
        REQUIRE(counted.hits + counted.demand_loads == acquired);
        REQUIRE(counted.waves == waves);
    }
    CHECK(store->statistics().evictions > 100);
}

TEST_CASE("what drafted rows alone and a module's layer ask for is counted apart, and really read bytes stay visible") {
    fake_slab_source source;
    auto options = small_store(source, 8);
    options.module_layer = 3;
    const auto store = make_store(options, source);
    const auto take = [&](std::int32_t layer, const std::vector<std::int32_t>& experts,
                          const std::vector<std::int32_t>& drafted) {
        auto lease = store->acquire(layer, experts, drafted);
        REQUIRE(lease);
        REQUIRE(wait_all(*lease));
    };
    take(1, {5, 3}, {3});
    take(1, {5, 3}, {3, 5});
    take(1, {3}, {});
    take(3, {2}, {2});
    take(3, {2}, {});
    const auto counted = store->statistics();
    CHECK(counted.hits == 1);
    CHECK(counted.demand_loads == 1);
    CHECK(counted.demand_bytes == 100);
    CHECK(counted.drafted.hits == 2);
    CHECK(counted.drafted.demand_loads == 1);
    CHECK(counted.drafted.demand_bytes == 100);
    CHECK(counted.module.hits == 1);
    CHECK(counted.module.demand_loads == 1);
    CHECK(counted.module.demand_bytes == 100);
}
