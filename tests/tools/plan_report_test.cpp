#include "tools/moira/plan_report.hpp"
#include "tools/moira/plan_verification.hpp"

#include "tests/plan/planned_model.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

plan_answer example_answer(std::uint64_t memory_bytes) {
    plan_answer answer;
    answer.model = "round";
    answer.demands = round_model();
    answer.wish = small_wish();
    answer.machine.memory_bytes = memory_bytes;
    answer.machine.speed = {10, 0.5};
    answer.machine.memory_source = answer.machine.memory_speed_source = answer.machine.disk_source = "given";
    answer.plan =
        make_plan(answer.demands, answer.wish, memory_bytes, answer.machine.speed, uniform_hits(), skewed_hits())
            .value();
    return answer;
}

/// Half of the experts in memory.
plan_answer half_answer() {
    const auto all_bytes = example_answer(std::uint64_t{1} << 30).plan.budget.memory_bytes_all;
    return example_answer(all_bytes - (std::uint64_t{16} << 20));
}

plan_verification measured(const plan_answer& answer, double tok_s) {
    plan_verification verified;
    verified.decode_tok_s = tok_s;
    verified.hit_rate = 0.5;
    judge(verified, answer);
    return verified;
}

} // namespace

TEST_CASE("a plan's JSON has the promised fields and the terms of its arithmetic") {
    const auto answer = half_answer();
    const auto value = plan_json(answer);
    CHECK(value.at("fits") == true);
    CHECK(value.at("slots") == 16);
    CHECK(value.at("expected_hit_rate").get<double>() == doctest::Approx(0.5));
    CHECK(value.at("expected_decode_tok_s").get<double>() == doctest::Approx(answer.plan.speed->tok_s));
    CHECK(value.at("reasons").is_array());
    const auto& speed = value.at("speed");
    const auto term = [&](const char* name) { return speed.at(name).get<double>(); };
    CHECK(term("dense_s") + term("kv_s") + term("experts_s") + term("overhead_s") + term("loaders_s") ==
          doctest::Approx(term("compute_s")));
    CHECK(term("compute_s") + term("stall_s") + term("between_s") == doctest::Approx(term("step_s")));
    CHECK(value.at("memory").at("dense_bytes") == 10 << 20);
    CHECK(value.at("more_memory").at("bytes") == 16 << 20);
    CHECK(value.at("settings").at("experts.ram_budget") == 16 << 20);
    CHECK(value.at("settings").at("context.max_tokens") == 1024);
    CHECK(value.at("vram").is_null());
    CHECK(value.at("verified").is_null());
}

TEST_CASE("what does not fit has null speeds, and reasons") {
    const auto answer = example_answer(std::uint64_t{64} << 20);
    const auto value = plan_json(answer);
    CHECK(value.at("fits") == false);
    CHECK(value.at("expected_decode_tok_s").is_null());
    CHECK(value.at("expected_hit_rate").is_null());
    CHECK(value.at("reasons").size() >= 2);
    CHECK(plan_text(answer, false).find("does not run") != std::string::npos);
}

TEST_CASE("a device's memory is arithmetic, with a speed where its own speeds are told") {
    auto answer = half_answer();
    const auto plan = [&](const planned_device& device) {
        answer.device = device;
        answer.on_device =
            plan_device(answer.demands, device, answer.plan.budget, 0.5, tokens_of_estimate(answer.wish), uniform_hits())
                .value();
        return plan_json(answer).at("vram");
    };
    CHECK(plan({std::uint64_t{1} << 30}).at("slots") == 32);
    CHECK(plan_json(answer).at("vram").at("speed").is_null());
    CHECK(plan_text(answer, false).find("--link-gb-s") != std::string::npos);
    const auto fast = plan({std::uint64_t{1} << 30, 1000, 20});
    CHECK(fast.at("speed").at("tok_s").get<double>() > answer.plan.speed->tok_s);
    CHECK(fast.at("link_gb_s") == 20);
    const auto small = plan({std::uint64_t{1} << 20, 1000, 20});
    CHECK(small.at("dense_fits") == false);
    CHECK(small.at("slots") == 0);
    CHECK(small.at("speed").is_null());
}

TEST_CASE("an estimate holds within a factor of its range") {
    const auto answer = half_answer();
    const double low = answer.plan.speed->tok_s, high = answer.plan.speed_high->tok_s;
    CHECK(measured(answer, (low + high) / 2).ratio == doctest::Approx(1));
    CHECK(measured(answer, low / 1.4).holds);
    CHECK(measured(answer, low / 1.4).ratio == doctest::Approx(1 / 1.4));
    CHECK_FALSE(measured(answer, low / 1.6).holds);
    CHECK(measured(answer, high * 1.4).holds);
    CHECK_FALSE(measured(answer, high * 1.6).holds);
    CHECK(measured(answer, low).ratio_of_time_model == doctest::Approx(1));
    CHECK_FALSE(measured(answer, 0).holds);
}

TEST_CASE("a verification says which part of a token's time is off") {
    auto answer = half_answer();
    plan_verification verified;
    verified.hit_rate = 0.5;
    const auto estimate = *answer.plan.speed;
    verified.compute_s = 2 * estimate.compute_s;
    verified.stall_s = estimate.stall_s;
    verified.decode_tok_s = 1 / (2 * estimate.compute_s + estimate.stall_s + 3 * estimate.between_s);
    judge(verified, answer);
    answer.verified = verified;
    const auto shown = plan_json(answer).at("verified");
    const auto ratio = [&](const char* part) { return shown.at("parts").at(part).at("ratio").get<double>(); };
    CHECK(ratio("compute_s") == doctest::Approx(2));
    CHECK(ratio("stall_s") == doctest::Approx(1));
    CHECK(ratio("between_s") == doctest::Approx(3));
    CHECK(shown.at("parts").at("compute_s").at("estimated").get<double>() == doctest::Approx(estimate.compute_s));
    CHECK(shown.at("estimate_at_measured_hit_rate").at("tok_s").get<double>() == doctest::Approx(estimate.tok_s));
    const auto text = plan_text(answer, false);
    CHECK(text.find("compute") != std::string::npos);
    CHECK(text.find("2.00 of the estimated") != std::string::npos);
}
