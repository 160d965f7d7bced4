#include "core/execute/device.hpp"

#include "plugins/plugin_host.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

moira_rmsnorm_desc norm_of(std::uint32_t width) {
    moira_rmsnorm_desc desc{};
    desc.header.struct_size = sizeof desc;
    desc.header.op = MOIRA_OP_RMSNORM;
    desc.header.rows_max = 4;
    desc.width = width;
    desc.epsilon = 1e-6F;
    return desc;
}

result<std::unique_ptr<plugin_host>> reference_host(compute_pool& pool) {
    plugin_host::options options;
    options.folders = {MOIRA_BUILD_PLUGINS};
    options.forced_plugin = "cpu_reference";
    return plugin_host::open(options, pool);
}

} // namespace

TEST_CASE("an op is prepared once per distinct descriptor") {
    compute_pool pool({1, 0});
    auto host = reference_host(pool);
    REQUIRE(host);
    op_set ops(**host);
    const auto first = ops.prepare(norm_of(64));
    const auto again = ops.prepare(norm_of(64));
    const auto other = ops.prepare(norm_of(128));
    REQUIRE(first);
    REQUIRE(again);
    REQUIRE(other);
    CHECK(*first == *again);
    CHECK(*first != *other);
    CHECK(ops.plugins() == std::map<std::string, std::string>{{"rmsnorm", "cpu_reference"}});
    CHECK_FALSE(ops.numerics_id().empty());
}

TEST_CASE("an op that no plugin can run is missing, not slow") {
    compute_pool pool({1, 0});
    auto host = reference_host(pool);
    REQUIRE(host);
    op_set ops(**host);
    auto desc = norm_of(64);
    desc.header.op = 999;
    const auto refused = ops.prepare(desc);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::op_missing);
}

TEST_CASE("an empty buffer has no address and costs nothing") {
    compute_pool pool({1, 0});
    auto host = reference_host(pool);
    REQUIRE(host);
    const auto& memory = (*host)->memory_provider();
    const auto empty = device_buffer::create(memory, 0);
    REQUIRE(empty);
    CHECK(empty->as<void>() == nullptr);
    auto some = device_buffer::create(memory, 100);
    REQUIRE(some);
    CHECK(some->bytes() == 100);
    CHECK(reinterpret_cast<std::uintptr_t>(some->as<void>()) % device_alignment == 0);
    auto moved = std::move(*some);
    CHECK(some->as<void>() == nullptr);
    CHECK(moved.bytes() == 100);
}
