#include "core/execute/memory_plan.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

constexpr std::uint64_t mib = 1ULL << 20;

memory_needs some_needs() {
    memory_needs needs;
    needs.dense = 100 * mib;
    needs.loading = 10 * mib;
    needs.kv_cache = 20 * mib;
    needs.step = 5 * mib;
    needs.reading = 3 * mib;
    return needs;
}

} // namespace

TEST_CASE("a budget that fits beside everything else is granted, to the byte") {
    const auto needs = some_needs();
    REQUIRE(needs.beside_experts() == 128 * mib + memory_margin_bytes);
    const auto available = needs.beside_experts() + 50 * mib;
    CHECK(*plan_expert_budget(needs, 50 * mib, false, available) == 50 * mib);
    const auto refused = plan_expert_budget(needs, 50 * mib + 1, false, available);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::out_of_memory);
}

TEST_CASE("auto takes what is left, and no more than there are experts") {
    const auto needs = some_needs();
    const auto available = needs.beside_experts() + 50 * mib;
    CHECK(*plan_expert_budget(needs, 70 * mib, true, available) == 50 * mib);
    CHECK(*plan_expert_budget(needs, 30 * mib, true, available) == 30 * mib);
}

TEST_CASE("a model whose other needs do not fit is refused, also while it is loaded") {
    auto needs = some_needs();
    CHECK_FALSE(plan_expert_budget(needs, 1, true, needs.beside_experts()));
    needs.loading = 200 * mib;
    CHECK_FALSE(plan_expert_budget(needs, 1, true, needs.beside_experts() + 50 * mib));
    CHECK_FALSE(plan_expert_budget(needs, 1, false, 1));
}

TEST_CASE("with a device, every need is met by one of the two memories, and the messages name its setting") {
    auto needs = some_needs();
    needs.long_step = 2 * mib;
    constexpr std::uint64_t total = 6400 * mib;
    const auto device = device_part(needs, total);
    const auto host = host_part(needs);
    CHECK(device.beside_experts() == needs.dense + needs.kv_cache + needs.step - needs.long_step + 100 * mib);
    CHECK(host.beside_experts() == needs.reading + needs.long_step + memory_margin_bytes);
    CHECK(device.loading == 0);
    CHECK(host.loading == needs.loading);
    const auto available = device.beside_experts() + 50 * mib;
    CHECK(*plan_expert_budget(device, 50 * mib, false, available) == 50 * mib);
    const auto refused = plan_expert_budget(device, 50 * mib + 1, false, available);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("experts.vram_budget") != std::string::npos);
    CHECK(plan_expert_budget(host, 50 * mib, false, host.beside_experts()).error().code == errc::out_of_memory);
}

TEST_CASE("where nobody knows what is available, what was asked for is tried") {
    CHECK(*plan_expert_budget(some_needs(), 7 * mib, true, 0) == 7 * mib);
}

TEST_CASE("the fewer experts fit, the fewer rows a long step has") {
    model_shape shape;
    shape.hidden = 2048;
    shape.moe.experts = 128;
    shape.moe.top_k = 8;
    CHECK(long_step_rows(shape, 768) == long_step_rows_max);
    CHECK(long_step_rows(shape, 128) == long_step_rows_max);
    // Half of a row's eight outputs and its state: 5 x 8 KiB.
    CHECK(long_step_rows(shape, 64) == 48 * 1024 / 40);
    CHECK(long_step_rows(shape, 8) < long_step_rows(shape, 64));
}
