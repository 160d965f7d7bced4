// A whole model on a device that behaves like a GPU: queued work, memory of its own, and scripted faults.
#include "tests/execute/fake_room.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

const moira_fake_controls& controls() {
    return fake_controls();
}

} // namespace

TEST_CASE("a device with memory of its own gives the reference's bits, at any budget") {
    const auto ids = some_tokens(18);
    for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
        const auto expected = reference_logits(name, ids);
        const fake_room room;
        std::uint64_t slab_bytes = 0;
        for (const std::uint64_t slots : {0, 12, 4}) { // 0: all
            CAPTURE(name);
            CAPTURE(slots);
            engine_options options;
            if (slots > 0)
                options.vram_budget = budget_of_slots(slots, slab_bytes);
            auto model = room.load(name, options);
            REQUIRE_MESSAGE(model, model.error().message);
            slab_bytes = (*model)->slab_bytes();
            for (const std::int32_t chunk : {18, 5}) {
                const auto logits = logits_of(**model, ids, chunk);
                REQUIRE_MESSAGE(logits, logits.error().message);
                CHECK(same_bits(*logits, expected));
            }
        }
    }
}

TEST_CASE("a launch that fails anywhere fails its step, and the next one is fine") {
    const auto ids = some_tokens(5);
    const auto expected = reference_logits("deepseek_v3", ids);
    const fake_room room;
    auto model = room.load("deepseek_v3", options_with_slots(4, 16384));
    REQUIRE_MESSAGE(model, model.error().message);
    std::uint32_t failed = 0;
    for (std::uint32_t nth = 1;; ++nth) {
        CAPTURE(nth);
        controls().fail_launch(room.device, nth);
        const auto logits = logits_of(**model, ids, 5);
        controls().fail_launch(room.device, 0);
        if (logits)
            break;
        ++failed;
        CHECK(logits.error().code == errc::device_error);
        const auto after = logits_of(**model, ids, 5);
        REQUIRE_MESSAGE(after, after.error().message);
        CHECK(same_bits(*after, expected));
    }
    CHECK(failed > 20);
}

TEST_CASE("an error word of any op fails its step, and the next one is fine") {
    const auto ids = some_tokens(5);
    for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
        const auto expected = reference_logits(name, ids);
        const fake_room room;
        auto model = room.load(name);
        REQUIRE_MESSAGE(model, model.error().message);
        const auto attention = name == "qwen3_moe" ? MOIRA_OP_ATTENTION_GQA : MOIRA_OP_ATTENTION_MLA;
        for (const std::uint32_t op :
             std::vector<std::uint32_t>{MOIRA_OP_EMBEDDING, MOIRA_OP_RMSNORM, MOIRA_OP_ROPE, MOIRA_OP_KV_APPEND,
                                        static_cast<std::uint32_t>(attention), MOIRA_OP_GEMM, MOIRA_OP_ROUTER_TOPK,
                                        MOIRA_OP_EXPERT_FFN, MOIRA_OP_COMBINE})
            for (const std::uint32_t nth : {1U, 3U}) { // three layers have experts
                if (op == MOIRA_OP_EMBEDDING && nth > 1)
                    continue; // once per step
                CAPTURE(op);
                CAPTURE(nth);
                controls().inject_error(room.device, op, nth);
                const auto broken = logits_of(**model, ids, 5);
                REQUIRE_FALSE(broken);
                CHECK(broken.error().code == errc::device_error);
                const auto after = logits_of(**model, ids, 5);
                REQUIRE_MESSAGE(after, after.error().message);
                CHECK(same_bits(*after, expected));
            }
    }
}

TEST_CASE("a device that runs out of memory at any buffer refuses the model and keeps nothing") {
    const fake_room room;
    std::uint32_t refused = 0;
    for (std::uint32_t nth = 1;; ++nth) {
        CAPTURE(nth);
        controls().fail_buffer(room.device, nth);
        const auto model = room.load("deepseek_v3");
        controls().fail_buffer(room.device, 0);
        if (model)
            break;
        ++refused;
        CHECK(model.error().code == errc::out_of_memory);
        CHECK(controls().live_objects(room.device) == 0);
    }
    CHECK(refused > 50);
}

TEST_CASE("a lost device fails this step and all later ones, and everything can still be given back") {
    const auto ids = some_tokens(5);
    for (const std::uint32_t nth : {1U, 7U, 30U}) {
        CAPTURE(nth);
        const fake_room room;
        auto model = room.load("deepseek_v3");
        REQUIRE_MESSAGE(model, model.error().message);
        controls().lose_device(room.device, nth);
        for (int step = 0; step < 2; ++step) {
            const auto broken = logits_of(**model, ids, 5);
            REQUIRE_FALSE(broken);
            CHECK(broken.error().code == errc::device_error);
        }
    }
}
