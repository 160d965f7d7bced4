#include "tests/execute/test_engine.hpp"

#include <atomic>
#include <doctest/doctest.h>
#include <thread>

using namespace moira;

namespace {

const std::vector<std::string> models{"deepseek_v3", "qwen3_moe"};

/// What every other way of computing must reproduce: one thread, all experts resident, one step.
std::vector<float> plain_logits(const std::string& model, const std::string& plugin, const std::vector<token_id>& ids) {
    test_engine::wanted how;
    how.plugin = plugin;
    auto plain = test_engine::required(golden_folder(model), how);
    auto logits = logits_of(*plain.model, ids, static_cast<std::int32_t>(ids.size()));
    REQUIRE_MESSAGE(logits, logits.error().message);
    REQUIRE(logits->size() == ids.size() * static_cast<std::size_t>(plain.model->shape().vocabulary));
    return std::move(*logits);
}

/// Calls `body(model, plugin, ids, expected logits)` for both goldens on every plugin of this machine.
template <class Body>
void for_all(std::size_t tokens, Body body) {
    const auto ids = some_tokens(tokens);
    for (const auto& plugin : runnable_plugins())
        for (const auto& model : models) {
            INFO(plugin, " on ", model);
            body(model, plugin, ids, plain_logits(model, plugin, ids));
        }
}

} // namespace

TEST_CASE("a whole forward pass gives the same bits in steps of any size") {
    for_all(35, [](const auto& model, const auto& plugin, const auto& ids, const auto& expected) {
        test_engine::wanted how;
        how.plugin = plugin;
        auto tested = test_engine::required(golden_folder(model), how);
        for (const std::int32_t chunk : {1, 3, 16, 34}) {
            CAPTURE(chunk);
            const auto logits = logits_of(*tested.model, ids, chunk);
            REQUIRE_MESSAGE(logits, logits.error().message);
            CHECK(same_bits(*logits, expected));
        }
    });
}

TEST_CASE("fewer slots than experts give the same bits, in waves below the floor") {
    for_all(20, [](const auto& model, const auto& plugin, const auto& ids, const auto& expected) {
        test_engine::wanted how;
        how.plugin = plugin;
        auto first = test_engine::required(golden_folder(model), how);
        const auto& shape = first.model->shape();
        const auto top_k = static_cast<std::uint64_t>(shape.moe.top_k);
        const auto floor = static_cast<std::uint64_t>(shape.moe_layers()) * top_k;
        for (const auto slots : {floor, top_k + 1, top_k}) {
            CAPTURE(slots);
            how.options = options_with_slots(slots, first.model->slab_bytes());
            auto tested = test_engine::required(golden_folder(model), how);
            CHECK(tested.model->experts().statistics().slots == slots);
            for (const std::int32_t chunk : {1, 20}) {
                const auto logits = logits_of(*tested.model, ids, chunk);
                REQUIRE_MESSAGE(logits, logits.error().message);
                CHECK(same_bits(*logits, expected));
            }
            const auto counters = tested.model->experts().statistics();
            CHECK(counters.evictions > 0);
            CHECK(counters.waves > static_cast<std::uint64_t>(shape.moe_layers()));
        }
    });
}

TEST_CASE("one, two and three threads give the same bits") {
    for_all(17, [](const auto& model, const auto& plugin, const auto& ids, const auto& expected) {
        for (const std::uint32_t threads : {2U, 3U}) {
            CAPTURE(threads);
            test_engine::wanted how;
            how.plugin = plugin;
            how.threads = threads;
            auto tested = test_engine::required(golden_folder(model), how);
            for (const std::int32_t chunk : {1, 17}) {
                const auto logits = logits_of(*tested.model, ids, chunk);
                REQUIRE_MESSAGE(logits, logits.error().message);
                CHECK(same_bits(*logits, expected));
            }
        }
    });
}

TEST_CASE("whichever expert arrives first, the bits are the same") {
    for_all(9, [](const auto& model, const auto& plugin, const auto& ids, const auto& expected) {
        // No loader: the waiter loads one after another. Four: they arrive in any order.
        for (const std::uint32_t loaders : {0U, 1U, 4U}) {
            CAPTURE(loaders);
            test_engine::wanted how;
            how.plugin = plugin;
            how.options.loader_threads = loaders;
            auto tested = test_engine::required(golden_folder(model), how);
            // Cold, partly warm, warm.
            for (const std::int32_t chunk : {4, 9, 9}) {
                const auto logits = logits_of(*tested.model, ids, chunk);
                REQUIRE_MESSAGE(logits, logits.error().message);
                CHECK(same_bits(*logits, expected));
            }
            CHECK(tested.model->experts().statistics().hits > 0);
        }
    });
}

TEST_CASE("resizing the budget between steps changes nothing") {
    for_all(24, [](const auto& model, const auto& plugin, const auto& ids, const auto& expected) {
        test_engine::wanted how;
        how.plugin = plugin;
        auto tested = test_engine::required(golden_folder(model), how);
        const auto slab_bytes = tested.model->slab_bytes();
        const auto top_k = static_cast<std::uint64_t>(tested.model->shape().moe.top_k);
        for (const auto slots : {std::uint64_t{12}, top_k, std::uint64_t{40}}) {
            CAPTURE(slots);
            REQUIRE(tested.model->experts().resize(options_with_slots(slots, slab_bytes).experts_budget_bytes));
            const auto logits = logits_of(*tested.model, ids, 5);
            REQUIRE_MESSAGE(logits, logits.error().message);
            CHECK(same_bits(*logits, expected));
        }
    });
}

TEST_CASE("resizing the budget in the middle of steps changes nothing either") {
    const auto ids = some_tokens(24);
    const auto expected = plain_logits("qwen3_moe", "cpu_reference", ids);
    auto tested = test_engine::required(golden_folder("qwen3_moe"), {});
    auto& model = *tested.model;
    const auto bytes_of = [&](std::uint64_t slots) {
        return options_with_slots(slots, model.slab_bytes()).experts_budget_bytes;
    };
    const auto few = static_cast<std::uint64_t>(model.shape().moe.top_k);
    std::atomic<bool> over{false};
    std::thread resizer([&] {
        for (std::uint64_t turn = 0; !over; ++turn)
            static_cast<void>(model.experts().resize(bytes_of(turn % 2 == 0 ? few : 40)));
    });
    // One pass in forty met the moment between asking how many experts fit and pinning them.
    for (int pass = 0; pass < 150; ++pass) {
        const auto logits = logits_of(model, ids, 24);
        CHECK_MESSAGE(logits, logits.error().message);
        if (logits)
            CHECK(same_bits(*logits, expected));
    }
    over = true;
    resizer.join();
}
