#include "tools/moira/machine_probe.hpp"

#include "tests/experts/fake_slab_source.hpp"

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

} // namespace

TEST_CASE("the disk's probe loads every expert once where there is time") {
    fake_slab_source source;
    const auto found = probe_disk(source, small_shape(), 3, 60, {});
    REQUIRE(found);
    CHECK(found->bytes == 16 * source.disk_bytes());
    CHECK(found->gb_s > 0);
    for (std::int32_t expert = 0; expert < 8; ++expert) {
        CHECK(source.attempts({0, expert}) == 0); // a dense layer
        CHECK(source.attempts({1, expert}) == 1);
        CHECK(source.attempts({2, expert}) == 1);
    }
}

TEST_CASE("the disk's probe ends when its time is over") {
    fake_slab_source source;
    source.set_delay(std::chrono::microseconds(1000));
    const auto found = probe_disk(source, small_shape(), 1, 0, {});
    REQUIRE(found);
    CHECK(found->bytes == source.disk_bytes());
}

TEST_CASE("a failed read and an interrupt end the probe") {
    fake_slab_source source;
    source.fail_next({1, 3}, 1);
    CHECK(probe_disk(source, small_shape(), 1, 60, {}).error().code == errc::io_error);
    CHECK(probe_disk(source, small_shape(), 2, 60, [] { return true; }).error().code == errc::cancelled);
}
