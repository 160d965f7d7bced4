// Experts in the memory of a device, over those in host memory: contract 1 at any budget of either, and order.
#include "tests/execute/fake_room.hpp"

#include <atomic>
#include <doctest/doctest.h>
#include <thread>

using namespace moira;

namespace {

struct sizes {
    std::uint64_t all = 0, top_k = 0, slab_bytes = 0;
};

sizes sizes_of(const fake_room& room, const std::string& name) {
    const auto whole = room.required(name);
    const auto& shape = whole->shape();
    return {static_cast<std::uint64_t>(shape.moe_layers()) * static_cast<std::uint64_t>(shape.moe.experts),
            static_cast<std::uint64_t>(shape.moe.top_k), whole->slab_bytes()};
}

engine_options with_budgets(std::uint64_t vram_slots, std::uint64_t ram_slots, std::uint64_t slab_bytes) {
    auto options = options_with_slots(ram_slots, slab_bytes);
    options.vram_budget = budget_of_slots(vram_slots, slab_bytes);
    return options;
}

} // namespace

TEST_CASE("any share of the experts on the device and in memory gives the reference's bits") {
    const auto ids = some_tokens(18);
    for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
        const auto expected = reference_logits(name, ids);
        const fake_room room;
        const auto known = sizes_of(room, name);
        for (const auto vram : {known.all, known.all / 2, known.all / 4, known.top_k})
            for (const auto ram : {known.all, known.top_k}) {
                CAPTURE(name);
                CAPTURE(vram);
                CAPTURE(ram);
                const auto model = room.required(name, with_budgets(vram, ram, known.slab_bytes));
                CHECK(model->experts().statistics().slots == vram);
                for (const std::int32_t chunk : {1, 18, 5}) {
                    const auto logits = logits_of(*model, ids, chunk);
                    REQUIRE_MESSAGE(logits, logits.error().message);
                    CHECK(same_bits(*logits, expected));
                }
            }
    }
}

TEST_CASE("the host's tier spares reads from disk, and both tiers are counted") {
    const auto ids = some_tokens(12);
    const fake_room room;
    const auto known = sizes_of(room, "qwen3_moe");
    const auto model = room.required("qwen3_moe", with_budgets(known.top_k, known.all, known.slab_bytes));
    for (int pass = 0; pass < 2; ++pass)
        REQUIRE(logits_of(*model, ids, 3));
    const auto counted = model->expert_statistics();
    REQUIRE(counted.host_tier);
    CHECK(counted.slots == known.top_k);
    CHECK(counted.host_tier->slots == known.all);
    CHECK(counted.demand_loads > counted.host_tier->demand_loads);
    CHECK(counted.host_tier->demand_loads <= known.all);
    CHECK(counted.host_tier->hits + counted.host_tier->demand_loads == counted.demand_loads);
    CHECK(counted.demand_bytes == counted.demand_loads * known.slab_bytes);
    CHECK(test_engine::required(golden_folder("qwen3_moe"), {}).model->expert_statistics().host_tier == nullptr);
}

TEST_CASE("long prompts, taken layer by layer, give the same bits with few slots on the device") {
    const auto ids = some_tokens(30);
    for (const std::string name : {"deepseek_v3", "qwen3_moe"}) {
        CAPTURE(name);
        const auto expected = reference_logits(name, ids);
        const fake_room room;
        const auto known = sizes_of(room, name);
        for (const auto vram : {known.all / 4, known.top_k}) {
            CAPTURE(vram);
            auto options = with_budgets(vram, known.all / 2, known.slab_bytes);
            options.rows_max = 8;
            options.sequences_max = 4;
            const auto model = room.required(name, options);
            REQUIRE(model->step_rows_max() >= 30);
            auto plan = plan_prompt_rows(ids, 0, 30, model->limits());
            const auto outcome = model->run_step(plan);
            REQUIRE_FALSE(outcome.failure);
            REQUIRE(outcome.samples.size() == 30);
            const auto vocabulary = static_cast<std::size_t>(model->shape().vocabulary);
            for (std::size_t row = 0; row < 30; ++row) {
                auto hash = plan.samples[row].hash;
                hash.add(std::span(expected).subspan(row * vocabulary, vocabulary));
                CHECK(outcome.samples[row].hash.value() == hash.value());
            }
        }
    }
}

TEST_CASE("loads ahead of time, slow copies and slow kernels change nothing") {
    const auto ids = some_tokens(14);
    const auto expected = reference_logits("qwen3_moe", ids);
    for (const std::uint64_t copy_us : {0, 300}) {
        const fake_room room;
        const auto known = sizes_of(room, "qwen3_moe");
        auto options = with_budgets(known.all / 2, known.all, known.slab_bytes);
        options.predict_routes = true;
        const auto model = room.required("qwen3_moe", options);
        model->experts().set_prefetch({.mode = prefetch_mode::always});
        fake_controls().set_latency_us(room.device, copy_us / 10);
        fake_controls().set_copy_latency_us(room.device, copy_us);
        for (const std::int32_t chunk : {1, 4, 1}) {
            const auto logits = logits_of(*model, ids, chunk);
            REQUIRE_MESSAGE(logits, logits.error().message);
            CHECK(same_bits(*logits, expected));
        }
        CHECK(model->expert_statistics().prefetch_loads > 0);
    }
}

TEST_CASE("the device's budget may change between steps and during them, up to what it was at the start") {
    const auto ids = some_tokens(16);
    const auto expected = reference_logits("qwen3_moe", ids);
    const fake_room room;
    const auto known = sizes_of(room, "qwen3_moe");
    const auto model = room.required("qwen3_moe", with_budgets(known.all / 2, known.all, known.slab_bytes));
    const auto bytes_of = [&](std::uint64_t slots) { return budget_of_slots(slots, known.slab_bytes).bytes; };
    for (const auto slots : {known.top_k, known.all / 4, known.all / 2}) {
        CAPTURE(slots);
        REQUIRE(model->experts().resize(bytes_of(slots)));
        CHECK(model->experts().statistics().slots == slots);
        const auto logits = logits_of(*model, ids, 5);
        REQUIRE_MESSAGE(logits, logits.error().message);
        CHECK(same_bits(*logits, expected));
    }
    const auto beyond = model->experts().resize(bytes_of(known.all));
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == errc::out_of_memory);
    CHECK(model->experts().resize(bytes_of(known.top_k) - 1).error().code == errc::budget_too_small);
    std::atomic<bool> over{false};
    std::thread resizer([&] {
        for (std::uint64_t turn = 0; !over; ++turn)
            static_cast<void>(model->experts().resize(bytes_of(turn % 2 == 0 ? known.top_k : known.all / 2)));
    });
    for (int pass = 0; pass < 20; ++pass) {
        const auto logits = logits_of(*model, ids, 16);
        CHECK_MESSAGE(logits, logits.error().message);
        if (logits)
            CHECK(same_bits(*logits, expected));
    }
    over = true;
    resizer.join();
}

TEST_CASE("budgets below one token's experts are refused with the setting's name, and so is more than the device has") {
    const fake_room room;
    const auto known = sizes_of(room, "qwen3_moe");
    const auto refused = [&](const engine_options& options) {
        const auto model = room.load("qwen3_moe", options);
        REQUIRE_FALSE(model);
        return model.error();
    };
    const auto small_vram = refused(with_budgets(known.top_k - 1, known.all, known.slab_bytes));
    CHECK(small_vram.code == errc::budget_too_small);
    CHECK(small_vram.message.find("experts.vram_budget") != std::string::npos);
    const auto small_ram = refused(with_budgets(known.all / 2, known.top_k - 1, known.slab_bytes));
    CHECK(small_ram.code == errc::budget_too_small);
    CHECK(small_ram.message.find("experts.ram_budget") != std::string::npos);

    const auto everything = known.all * known.slab_bytes;
    auto automatic = with_budgets(0, known.all, known.slab_bytes);
    automatic.vram_budget.automatic = true;
    fake_controls().set_memory_bytes(room.device, std::uint64_t{64} << 20);
    CHECK(room.required("qwen3_moe", automatic)->experts().statistics().slots == known.all);
    std::uint64_t beside = std::uint64_t{64} << 20;
    while (room.load("qwen3_moe", with_budgets(known.all, known.all, known.slab_bytes))) // as little as it needs
        fake_controls().set_memory_bytes(room.device, beside -= everything / 4);
    const auto large = refused(with_budgets(known.all, known.all, known.slab_bytes));
    CHECK(large.code == errc::out_of_memory);
    CHECK(large.message.find("experts.vram_budget") != std::string::npos);
    const auto less = room.required("qwen3_moe", automatic)->experts().statistics().slots;
    CHECK(less < known.all);
    CHECK(less >= known.all / 2);
}

TEST_CASE("a copy that fails anywhere fails its step with device_error, and the next one is fine") {
    const auto ids = some_tokens(5);
    const auto expected = reference_logits("qwen3_moe", ids);
    const fake_room room;
    const auto known = sizes_of(room, "qwen3_moe");
    const auto model = room.required("qwen3_moe", with_budgets(known.top_k, known.all, known.slab_bytes));
    std::uint32_t failed = 0;
    for (std::uint32_t nth = 1;; ++nth) {
        CAPTURE(nth);
        fake_controls().fail_copy(room.device, nth);
        const auto outcome = model->run_step(plan_prompt_rows(ids, 0, 5, model->limits()));
        fake_controls().fail_copy(room.device, 0);
        if (!outcome.failure)
            break;
        ++failed;
        CHECK(outcome.failure->code == errc::device_error);
        CHECK(outcome.failed_rows.empty()); // it concerns all requests
        const auto after = logits_of(*model, ids, 5);
        REQUIRE_MESSAGE(after, after.error().message);
        CHECK(same_bits(*after, expected));
    }
    CHECK(failed > 15);
}

TEST_CASE("a device that is lost while experts travel fails this step and all later ones, and is given back whole") {
    const auto ids = some_tokens(5);
    for (std::uint32_t nth = 1; nth < 40; nth += 3) {
        CAPTURE(nth);
        const fake_room room;
        const auto known = sizes_of(room, "qwen3_moe");
        const auto model = room.required("qwen3_moe", with_budgets(known.top_k, known.all, known.slab_bytes));
        fake_controls().set_copy_latency_us(room.device, 200);
        fake_controls().lose_device_at_copy(room.device, nth);
        for (int step = 0; step < 2; ++step) {
            const auto outcome = model->run_step(plan_prompt_rows(ids, 0, 5, model->limits()));
            if (!outcome.failure && step == 0)
                continue; // fewer copies than that in a step
            REQUIRE(outcome.failure);
            CHECK(outcome.failure->code == errc::device_error);
            CHECK(outcome.failed_rows.empty());
        }
    }
}

TEST_CASE("a layer whose experts are all on the device is waited for once, where its routing is needed") {
    const auto ids = some_tokens(6);
    const fake_room room;
    const auto model = room.required("qwen3_moe");
    REQUIRE(logits_of(*model, ids, 6));
    const auto layers = static_cast<std::uint64_t>(model->shape().moe_layers());
    fake_controls().clear_calls(room.device);
    REQUIRE_FALSE(model->run_step(plan_prompt_rows(ids, 0, 6, model->limits())).failure);
    std::uint64_t waits = 0;
    moira_fake_call call{};
    for (std::uint64_t index = 0; fake_controls().call_at(room.device, index, &call) != 0; ++index)
        waits += call.kind == MOIRA_FAKE_SYNCHRONIZE ? 1 : 0;
    CHECK(waits == layers + 3); // the plan, logits, and the end of the last layer's pins
    // Pins are over: one token's experts fit again.
    CHECK(model->experts().resize(
        budget_of_slots(static_cast<std::uint64_t>(model->shape().moe.top_k), model->slab_bytes()).bytes));
    CHECK(logits_of(*model, ids, 2));
}
