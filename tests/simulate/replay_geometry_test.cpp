#include "core/simulate/replay_geometry.hpp"

#include <doctest/doctest.h>
#include <string>

using namespace moira;

namespace {

const route_trace two_layers{.layers = 2, .experts = 4, .top_k = 1, .layer_numbers = {1, 3}};

} // namespace

TEST_CASE("bytes are those of the recorded layers, speeds have defaults") {
    const auto read = parse_replay_geometry(
        R"({"source": "x", "expert_bytes": {"0": 1, "1": 2000, "3": 4000}, "dense_bytes": {"1": 0, "3": 30000}})",
        two_layers, "g.json");
    REQUIRE(read);
    CHECK(read->expert_bytes == std::vector<std::uint64_t>{2000, 4000});
    CHECK(read->dense_bytes == std::vector<std::uint64_t>{0, 30000});
    CHECK(read->disk_gb_s == 1);
    CHECK(read->read_s(1) == doctest::Approx(4e-6));
    CHECK(read->dense_s(1) == doctest::Approx(1e-6));
    const auto fast = parse_replay_geometry(
        R"({"expert_bytes": {"1": 2, "3": 4}, "dense_bytes": {"1": 1, "3": 3}, "disk_gb_s": 2, "memory_gb_s": 60,
            "layer_s": 0.5, "head_bytes": 7, "pack_s": 0.25})",
        two_layers, "g.json");
    REQUIRE(fast);
    CHECK(fast->disk_gb_s == 2);
    CHECK(fast->memory_gb_s == 60);
    CHECK(fast->layer_s == 0.5);
    CHECK(fast->head_bytes == 7);
    CHECK(fast->pack_s == 0.25);
}

TEST_CASE("a geometry that says too little or makes no sense is refused") {
    const std::string good = R"("dense_bytes": {"1": 0, "3": 0})";
    for (const std::string& text :
         {std::string("[]"), std::string("{"), "{" + good + "}", R"({"expert_bytes": {"1": 5}, )" + good + "}",
          R"({"expert_bytes": {"1": 5, "3": 0}, )" + good + "}",
          R"({"expert_bytes": {"1": 5, "3": "7"}, )" + good + "}",
          R"({"expert_bytes": {"1": 5, "3": -7}, )" + good + "}",
          R"({"expert_bytes": {"1": 5, "3": 1e300}, )" + good + "}",
          R"({"expert_bytes": {"1": 5, "3": 6}, "disk_gb_s": 0, )" + good + "}", std::string(100000, '[')}) {
        const auto read = parse_replay_geometry(text, two_layers, "g.json");
        REQUIRE_FALSE(read);
        CHECK(read.error().code == errc::corrupt_file);
    }
    CHECK(read_replay_geometry("/nowhere/at/all.json", two_layers).error().code == errc::not_found);
}
