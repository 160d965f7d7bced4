#include "tests/execute/test_engine.hpp"

#include <doctest/doctest.h>
#include <map>

using namespace moira;

namespace {

struct counting_watch final : launch_watch {
    void launched(const bound_launch& launch, double seconds) override {
        CHECK(seconds >= 0);
        CHECK(launch.op->desc().op == launch.op->kind);
        CHECK(launch.op->desc().struct_size == launch.op->desc_bytes.size());
        ++calls[launch.op->kind];
    }
    std::map<std::uint32_t, int> calls;
};

} // namespace

TEST_CASE("a watched step shows every op once and gives the same bits") {
    test_engine::wanted how;
    auto tested = test_engine::required(golden_folder("qwen3_moe"), how);
    const auto ids = some_tokens(6);
    const auto expected = logits_of(*tested.model, ids, 6);
    REQUIRE(expected);
    counting_watch watch;
    tested.model->watch_launches(&watch);
    const auto watched = logits_of(*tested.model, ids, 6);
    tested.model->watch_launches(nullptr);
    REQUIRE(watched);
    CHECK(same_bits(*expected, *watched));
    // 4 layers: of each q, k, v, o and the router, and one head.
    CHECK(watch.calls[MOIRA_OP_GEMM] == 4 * 5 + 1);
    CHECK(watch.calls[MOIRA_OP_ATTENTION_GQA] == 4);
    CHECK(watch.calls[MOIRA_OP_EMBEDDING] == 1);
    const auto before = watch.calls;
    REQUIRE(logits_of(*tested.model, ids, 6));
    CHECK(watch.calls == before);
}
