// Missing experts as they arrive, reading and packing apart, and the split of a step's time.
#include "core/experts/expert_store.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <set>

using namespace moira;

namespace {

/// Reads and packs apart; both wait until their expert is let through.
class gated_source final : public slab_source {
public:
    std::uint64_t slab_bytes() const noexcept override { return 256; }
    std::uint64_t scratch_bytes() const noexcept override { return 4096; }
    std::uint64_t disk_bytes() const noexcept override { return 100; }
    bool reads_apart() const noexcept override { return true; }
    result<void> load(expert_id, std::span<std::byte>, std::span<std::byte>) override {
        return fail(errc::internal, "load() of a source that reads apart");
    }
    result<void> read(expert_id expert, std::span<std::byte> scratch) override {
        std::unique_lock held(lock_);
        reading_.insert(expert.expert);
        changed_.notify_all();
        changed_.wait(held, [&] { return open_ || let_read_.contains(expert.expert); });
        scratch[0] = static_cast<std::byte>(expert.expert);
        if (expert.expert == broken_)
            return fail(errc::corrupt_file, "scripted");
        return {};
    }
    result<void> pack(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) override {
        std::unique_lock held(lock_);
        packing_.insert(expert.expert);
        changed_.notify_all();
        changed_.wait(held, [&] { return open_ || let_pack_.contains(expert.expert); });
        std::fill(slab.begin(), slab.end(), scratch[0]);
        return {};
    }

    void let(std::int32_t expert) {
        const std::lock_guard held(lock_);
        let_read_.insert(expert);
        let_pack_.insert(expert);
        changed_.notify_all();
    }
    void let_read_only(std::int32_t expert) {
        const std::lock_guard held(lock_);
        let_read_.insert(expert);
        changed_.notify_all();
    }
    void let_all() {
        const std::lock_guard held(lock_);
        open_ = true;
        changed_.notify_all();
    }
    void break_expert(std::int32_t expert) { broken_ = expert; }
    bool begins(bool packing, std::int32_t expert) {
        std::unique_lock held(lock_);
        return changed_.wait_for(held, std::chrono::seconds(20),
                                 [&] { return (packing ? packing_ : reading_).contains(expert); });
    }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    std::set<std::int32_t> let_read_, let_pack_, reading_, packing_;
    std::int32_t broken_ = -1;
    bool open_ = false;
};

std::unique_ptr<expert_store> make_store(slab_source& source, std::uint32_t loader_threads) {
    auto options = small_store(source, 16);
    options.loader_threads = loader_threads;
    auto store = expert_store::create(options, source, nullptr);
    REQUIRE(store);
    prefetch_policy policy;
    policy.mode = prefetch_mode::always;
    (*store)->set_prefetch(policy);
    return std::move(*store);
}

} // namespace

TEST_CASE("missing experts are named once each, in the order of their arrival") {
    gated_source source;
    const auto store = make_store(source, 3);
    auto lease = store->acquire(1, std::array{4, 5, 6});
    REQUIRE(lease);
    source.let(6);
    CHECK(*lease->wait_some() == std::vector<std::int32_t>{6});
    CHECK(store->table(1)[6].address != 0);
    CHECK(store->table(1)[4].address == 0);
    source.let(4);
    CHECK(*lease->wait_some() == std::vector<std::int32_t>{4});
    source.let(5);
    CHECK(*lease->wait_some() == std::vector<std::int32_t>{5});
    CHECK(lease->wait_some()->empty());
    CHECK(wait_all(*lease));
    CHECK(store->statistics().stall_s > 0);
}

TEST_CASE("with one loader whoever waits loads too, and every expert is named") {
    for (const std::uint32_t loaders : {0U, 1U}) {
        fake_slab_source source;
        const auto store = make_store(source, loaders);
        auto lease = store->acquire(1, std::array{4, 5, 6, 7});
        REQUIRE(lease);
        std::vector<std::int32_t> named;
        while (named.size() < 4) {
            const auto some = lease->wait_some();
            REQUIRE(some);
            REQUIRE_FALSE(some->empty());
            named.insert(named.end(), some->begin(), some->end());
        }
        std::sort(named.begin(), named.end());
        CHECK(named == std::vector<std::int32_t>{4, 5, 6, 7});
    }
}

TEST_CASE("a failed load is heard by whoever waits for some of the wave") {
    gated_source source;
    const auto store = make_store(source, 2);
    source.break_expert(5);
    source.let_all();
    auto lease = store->acquire(1, std::array{4, 5});
    REQUIRE(lease);
    auto some = lease->wait_some();
    while (some && !some->empty())
        some = lease->wait_some();
    REQUIRE_FALSE(some);
    CHECK(some.error().code == errc::corrupt_file);
}

TEST_CASE("the link is free while an expert is packed") {
    gated_source source;
    const auto store = make_store(source, 3);
    auto lease = store->acquire(1, std::array{4});
    REQUIRE(lease);
    store->hint(2, std::array{expert_hint{9, 0.9F}});
    REQUIRE(source.begins(false, 4));
    source.let_read_only(4);
    REQUIRE(source.begins(true, 4));
    CHECK(source.begins(false, 9)); // before 4 is packed
    source.let_all();
    REQUIRE(wait_all(*lease));
}

TEST_CASE("the time of steps is computing and waiting, and the link's is busy or idle") {
    gated_source source;
    const auto store = make_store(source, 2);
    store->begin_step();
    auto lease = store->acquire(1, std::array{4});
    REQUIRE(lease);
    REQUIRE(source.begins(false, 4));
    std::this_thread::sleep_for(std::chrono::milliseconds(4)); // the link is busy
    source.let_all();
    REQUIRE(wait_all(*lease));
    std::this_thread::sleep_for(std::chrono::milliseconds(3)); // the link is idle
    store->end_step(0.002);
    const auto counted = store->statistics();
    CHECK(counted.step_stall_s == 0.002);
    CHECK(counted.compute_s >= 0.005);
    CHECK(counted.link_idle_s >= 0.003);
    CHECK(counted.link_idle_s <= counted.compute_s + counted.step_stall_s - 0.004);
}
