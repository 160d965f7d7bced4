#include "core/plan/budget_plan.hpp"
#include "tests/plan/planned_model.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace moira;

namespace {

std::uint64_t terms(const budget_plan& plan) {
    return plan.dense_bytes + plan.kv_bytes + plan.arena_bytes + plan.loader_bytes + plan.reserve_bytes +
           plan.budget_bytes;
}

bool says(const budget_plan& plan, const std::string& word) {
    for (const auto& reason : plan.reasons)
        if (reason.find(word) != std::string::npos)
            return true;
    return false;
}

} // namespace

TEST_CASE("with much memory every expert has a slot and the rest is left alone") {
    const auto plan = plan_budget(round_model(), small_wish(), std::uint64_t{1} << 30);
    CHECK(plan.fits);
    CHECK(plan.slots == 32);
    CHECK(plan.budget_bytes == std::uint64_t{32} << 20);
    CHECK(terms(plan) == plan.memory_bytes_all);
    CHECK(plan.resident_share() == 1.0);
    CHECK(plan.reasons.empty());
}

TEST_CASE("the bound between fitting and not is exact") {
    const auto roomy = plan_budget(round_model(), small_wish(), std::uint64_t{1} << 30);
    CHECK(plan_budget(round_model(), small_wish(), roomy.memory_bytes_min).fits);
    CHECK(plan_budget(round_model(), small_wish(), roomy.memory_bytes_min).slots == 2);
    const auto tight = plan_budget(round_model(), small_wish(), roomy.memory_bytes_min - 1);
    CHECK_FALSE(tight.fits);
    CHECK_FALSE(tight.placed);
    CHECK(says(tight, "more memory"));
    CHECK(plan_budget(round_model(), small_wish(), roomy.memory_bytes_all).slots == 32);
    CHECK(plan_budget(round_model(), small_wish(), roomy.memory_bytes_all - 1).slots == 31);
}

TEST_CASE("terms never exceed the memory") {
    const auto roomy = plan_budget(round_model(), small_wish(), std::uint64_t{1} << 30);
    for (auto memory = roomy.memory_bytes_min; memory < roomy.memory_bytes_all; memory += 777'777)
        CHECK(terms(plan_budget(round_model(), small_wish(), memory)) <= memory);
}

TEST_CASE("a context that is too long is named with one that would do") {
    auto wish = small_wish();
    wish.context = 1 << 20;
    const auto plan = plan_budget(round_model(), wish, std::uint64_t{400} << 20);
    CHECK_FALSE(plan.fits);
    REQUIRE(says(plan, "--context "));
    const auto text = plan.reasons.back();
    wish.context = std::stoi(text.substr(text.rfind(' ') + 1));
    CHECK(plan_budget(round_model(), wish, std::uint64_t{400} << 20).fits);
}

TEST_CASE("an asked-for budget is taken as it is") {
    auto wish = small_wish();
    wish.budget_bytes = (std::uint64_t{5} << 20) + 3;
    const auto plan = plan_budget(round_model(), wish, std::uint64_t{1} << 30);
    CHECK(plan.slots == 5);
    CHECK(plan.budget_bytes == *wish.budget_bytes);
    CHECK(says(plan, "fewer slots than one token"));
    wish.budget_bytes = std::uint64_t{1} << 20; // one layer of one token needs two
    CHECK_FALSE(plan_budget(round_model(), wish, std::uint64_t{1} << 30).fits);
    wish.budget_bytes = std::uint64_t{1} << 40;
    CHECK_FALSE(plan_budget(round_model(), wish, std::uint64_t{1} << 30).fits);
}

TEST_CASE("the KV budget counts between one context and all sequences'") {
    auto wish = small_wish();
    const auto context_bytes = 1024 * round_model().kv_token_bytes();
    wish.sequences = 4;
    CHECK(plan_budget(round_model(), wish, std::uint64_t{1} << 30).kv_bytes == context_bytes);
    wish.kv_budget_bytes = 2 * context_bytes;
    CHECK(plan_budget(round_model(), wish, std::uint64_t{1} << 30).kv_bytes == 2 * context_bytes);
    wish.kv_budget_bytes = 100 * context_bytes;
    CHECK(plan_budget(round_model(), wish, std::uint64_t{1} << 30).kv_bytes == 4 * context_bytes);
}

TEST_CASE("a model that this version cannot run is placed and refused") {
    auto model = round_model();
    model.refusal = "weights of type X";
    const auto plan = plan_budget(model, small_wish(), std::uint64_t{1} << 30);
    CHECK(plan.placed);
    CHECK_FALSE(plan.fits);
    CHECK(says(plan, "weights of type X"));
}

TEST_CASE("a model without experts needs no slots") {
    auto model = round_model();
    model.shape.layer_is_moe.assign(4, false);
    model.slot_bytes = model.disk_bytes = 0;
    const auto plan = plan_budget(model, small_wish(), std::uint64_t{1} << 30);
    CHECK(plan.fits);
    CHECK(plan.budget_bytes == 0);
    CHECK(plan.resident_share() == 1.0);
}

TEST_CASE("shapes say what the files of the shape would") {
    const auto* known = find_synthetic_shape("qwen3-30b-a3b");
    REQUIRE(known != nullptr);
    const auto keep = demands_of(*known, false, false), narrow = demands_of(*known, false, true);
    REQUIRE((keep && narrow));
    CHECK(keep->experts_all() == 48 * 128);
    CHECK(keep->slot_bytes == 3 * 2048 * 768 * 2);
    CHECK(narrow->slot_bytes == 3 * (2048 * 768 + 16 * 6 * 4));
    CHECK(narrow->disk_bytes == keep->disk_bytes);
    CHECK(keep->fp8_helps);
    CHECK(keep->refusal.empty());
    CHECK(keep->dense_token_bytes < keep->dense_bytes);
    const auto stored = demands_of(*known, true, true);
    REQUIRE(stored);
    CHECK_FALSE(stored->fp8_helps);
    auto absurd = *known;
    absurd.layers = 1 << 20;
    CHECK(demands_of(absurd, false, false).error().code == errc::invalid_argument);
}
