#include "core/plan/device_plan.hpp"

#include "core/experts/device_margin.hpp"
#include "tests/plan/planned_model.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

/// Experts of the model that fit on a device beside everything else.
planned_device device_for(const budget_plan& host, std::uint64_t slots, std::uint64_t slot_bytes) {
    const auto needed = host.dense_bytes + host.kv_bytes + host.arena_bytes + slots * slot_bytes;
    // The margin is a part of the whole.
    return {needed + needed / (device_margin_divisor - 1) + 1, 1000, 20};
}

budget_plan host_of(const model_demands& demands, std::uint64_t spared_slots) {
    const auto all = plan_budget(demands, small_wish(), std::uint64_t{1} << 40);
    return plan_budget(demands, small_wish(), all.memory_bytes_all - spared_slots * demands.slot_bytes);
}

device_plan planned(const model_demands& demands, const planned_device& device, const budget_plan& host,
                    std::optional<double> disk_gb_s = 0.5) {
    auto made = plan_device(demands, device, host, disk_gb_s, 100, uniform_hits());
    REQUIRE(made);
    return *made;
}

} // namespace

TEST_CASE("a device that holds everything is as fast as its memory") {
    const auto demands = round_model();
    const auto host = host_of(demands, 0);
    const auto plan = planned(demands, device_for(host, host.slots_all, demands.slot_bytes), host);
    CHECK(plan.dense_fits);
    CHECK(plan.slots == host.slots_all);
    CHECK(plan.hit_rate == 1);
    REQUIRE(plan.speed);
    machine_speed alone;
    alone.memory_gb_s = 1000;
    CHECK(plan.speed->tok_s == doctest::Approx(estimate_speed(demands, alone, 1, 100)->tok_s));
}

TEST_CASE("what misses on the device comes over the link, and from the disk where the host lacks it") {
    const auto demands = round_model();
    const auto whole = host_of(demands, 0);
    const auto device = device_for(whole, whole.slots_all / 4, demands.slot_bytes);
    const auto over_link = planned(demands, device, whole, std::nullopt);
    CHECK(over_link.slots == whole.slots_all / 4);
    CHECK(over_link.hit_rate == doctest::Approx(0.25));
    CHECK(over_link.host_hit_rate == 1);
    REQUIRE(over_link.speed);
    const auto chosen = static_cast<double>(demands.experts_per_token());
    CHECK(over_link.speed->reads_s ==
          doctest::Approx(chosen * 0.75 * static_cast<double>(demands.slot_bytes) / 20e9).epsilon(1e-6));

    const auto half = host_of(demands, whole.slots_all / 2);
    const auto over_disk = planned(demands, device, half);
    CHECK(over_disk.host_hit_rate == doctest::Approx(1.0 / 3)); // from a quarter to a half, of three quarters
    REQUIRE(over_disk.speed);
    CHECK(over_disk.speed->reads_s ==
          doctest::Approx(over_link.speed->reads_s +
                          chosen * 0.75 * (2.0 / 3) * static_cast<double>(demands.disk_bytes) / 0.5e9)
              .epsilon(1e-6));
    CHECK_FALSE(planned(demands, device, half, std::nullopt).speed); // nobody knows the disk
}

TEST_CASE("a device too small for one token, or without told speeds, has no speed") {
    const auto demands = round_model();
    const auto host = host_of(demands, 0);
    auto device = device_for(host, host.slots_min - 1, demands.slot_bytes);
    CHECK(planned(demands, device, host).dense_fits);
    CHECK_FALSE(planned(demands, device, host).speed);
    device.memory_bytes = host.dense_bytes;
    CHECK_FALSE(planned(demands, device, host).dense_fits);
    device = device_for(host, host.slots_all, demands.slot_bytes);
    device.link_gb_s = 0;
    CHECK(planned(demands, device, host).slots == host.slots_all);
    CHECK_FALSE(planned(demands, device, host).speed);
}
