#include "tools/moira/disk_probe.hpp"

#include "core/base/thread_time.hpp"
#include "tests/experts/fake_slab_source.hpp"

#include <atomic>
#include <doctest/doctest.h>

using namespace moira;

namespace {

model_shape small_shape() {
    model_shape shape;
    shape.layers = 3;
    shape.layer_is_moe = {false, true, true};
    shape.moe.experts = 8;
    return shape;
}

disk_probe probe_of(slab_source& source, std::uint32_t threads, probed_way way = probed_way::read_and_pack) {
    return disk_probe::create(source, small_shape(), threads, way).value();
}

/// Counts its two halves; packing works the processor.
class halved_source final : public slab_source {
public:
    std::uint64_t slab_bytes() const noexcept override { return 256; }
    std::uint64_t scratch_bytes() const noexcept override { return 4096; }
    std::uint64_t disk_bytes() const noexcept override { return 1000; }
    bool reads_apart() const noexcept override { return true; }
    result<void> load(expert_id, std::span<std::byte>, std::span<std::byte>) override {
        return fail(errc::internal, "the halves are there");
    }
    result<void> read(expert_id, std::span<std::byte> scratch) override {
        ++reads;
        return scratch.size() < 4096 ? fail(errc::internal, "no scratch") : result<void>();
    }
    result<void> pack(expert_id, std::span<std::byte> slab, std::span<std::byte>) override {
        ++packs;
        if (slab.size() < 256)
            return fail(errc::internal, "no slab");
        const double begin_s = thread_cpu_s();
        while (thread_cpu_s() - begin_s < 0.0005)
            slab[0] ^= std::byte{1};
        return {};
    }
    std::string description() const override { return buffered ? "buffered: refused" : "direct, as set"; }

    std::atomic<int> reads{0}, packs{0};
    bool buffered = false;
};

} // namespace

TEST_CASE("the probe loads every expert once where there is time, and goes on where it ended") {
    fake_slab_source source;
    auto probe = probe_of(source, 3);
    for (int round = 1; round <= 2; ++round) {
        const auto found = probe.measure(60);
        REQUIRE(found);
        CHECK(found->bytes == 16 * source.disk_bytes());
        CHECK(found->gb_s > 0);
        for (std::int32_t expert = 0; expert < 8; ++expert) {
            CHECK(source.attempts({0, expert}) == 0); // a dense layer
            CHECK(source.attempts({1, expert}) == round);
            CHECK(source.attempts({2, expert}) == round);
        }
    }
}

TEST_CASE("the probe ends when its time is over, and the next measurement begins with other experts") {
    fake_slab_source source;
    source.set_delay(std::chrono::microseconds(1000));
    auto probe = probe_of(source, 1);
    for (int round = 0; round < 16; ++round) {
        const auto found = probe.measure(0);
        REQUIRE(found);
        CHECK(found->bytes == source.disk_bytes());
    }
    for (std::int32_t expert = 0; expert < 8; ++expert)
        CHECK(source.attempts({1, expert}) == 1);
}

TEST_CASE("reading is measured without packing, or with it and its processor time") {
    halved_source source;
    const auto read = probe_of(source, 2, probed_way::read).measure(60);
    REQUIRE(read);
    CHECK(source.reads == 16);
    CHECK(source.packs == 0);
    CHECK(read->pack_cpu_s == 0);
    const auto packed = probe_of(source, 2).measure(60);
    REQUIRE(packed);
    CHECK(source.packs == 16);
    CHECK(packed->pack_cpu_s >= 0.0005);
    CHECK(packed->read_cpu_s < packed->pack_cpu_s);
}

TEST_CASE("files that the page cache stands before are said not to be read directly") {
    halved_source source;
    const auto probe = probe_of(source, 1);
    CHECK(probe.direct());
    source.buffered = true;
    CHECK_FALSE(probe.direct());
}

TEST_CASE("a failed read and an interrupt end the probe") {
    fake_slab_source source;
    source.fail_next({1, 3}, 1);
    CHECK(probe_of(source, 1).measure(60).error().code == errc::io_error);
    CHECK(probe_of(source, 2).measure(60, [] { return true; }).error().code == errc::cancelled);
    CHECK(disk_probe::create(source, {}, 1, probed_way::read).error().code == errc::invalid_argument);
}
