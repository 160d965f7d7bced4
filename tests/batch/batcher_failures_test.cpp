#include "tests/batch/batching_engine.hpp"

#include <array>

using namespace moira;
using namespace moira::test;

TEST_CASE("a failed step ends exactly the requests with rows in it") {
    auto options = small_options();
    options.sequences_max = 2;
    batching_engine machine(options);
    const auto survivor = make_request(3, 5);
    REQUIRE(machine.batch.admit(make_request(1, 5), start));
    REQUIRE(machine.batch.admit(make_request(2, 30), start));
    REQUIRE(machine.batch.admit(survivor, start));
    const auto plan = machine.plan();
    const auto outputs = machine.take(machine.batch.advance(machine.stream.break_down(*plan), start));
    CHECK(outputs.size() == 2);
    for (const std::uint64_t id : {1, 2}) {
        CHECK(machine.ended.at(id).reason == finish_reason::error);
        CHECK(machine.ended.at(id).failure->code == errc::device_error);
    }
    machine.run();
    machine.check_equals_alone(survivor);
    CHECK(machine.batch.statistics().failed == 2);
    CHECK(machine.batch.statistics().pages_free == options.kv.pages);
}

TEST_CASE("a failure that names rows ends the requests that have them, and the others end as alone") {
    // Two decode and one is inside its prompt: in the plan decoding rows come first, whoever came when.
    for (const bool drafting : {false, true})
        for (std::uint64_t damaged = 1; damaged <= 3; ++damaged) {
            CAPTURE(drafting);
            CAPTURE(damaged);
            auto options = small_options();
            if (drafting)
                options.speculation.source = draft_source::model;
            batching_engine machine(options);
            const std::array requests{make_request(1, 21), make_request(2, 5), make_request(3, 5)};
            for (const auto& request : requests)
                REQUIRE(machine.batch.admit(request, start));
            machine.finish_step(*machine.plan());
            machine.finish_step(*machine.plan());
            const auto plan = machine.plan();
            auto outcome = machine.stream.break_down(*plan);
            // Rows of one sequence see the same pages.
            std::vector<std::int32_t> begins{0};
            for (std::int32_t row = 1; row < plan->rows(); ++row) {
                const auto& pages = plan->attention_rows;
                if (pages[static_cast<std::size_t>(row)].page_table_offset !=
                    pages[static_cast<std::size_t>(row) - 1].page_table_offset)
                    begins.push_back(row);
            }
            REQUIRE(begins.size() == 3);
            const std::size_t place = damaged == 1 ? 2 : damaged - 2; // the first request is still in its prompt
            outcome.failed_rows = {begins[place]};
            const auto outputs = machine.take(machine.batch.advance(outcome, start));
            CHECK(outputs.size() == 1);
            REQUIRE(machine.ended.contains(damaged));
            CHECK(machine.ended.at(damaged).failure->code == errc::device_error);
            machine.run();
            for (const auto& request : requests)
                if (request.id.value != damaged)
                    machine.check_equals_alone(request);
            CHECK(machine.batch.statistics().failed == 1);
            CHECK(machine.batch.statistics().pages_free == options.kv.pages);
        }
}

TEST_CASE("a failure that names rows which the step does not have ends all of it") {
    batching_engine machine(small_options());
    REQUIRE(machine.batch.admit(make_request(1, 5), start));
    REQUIRE(machine.batch.admit(make_request(2, 5), start));
    const auto plan = machine.plan();
    auto outcome = machine.stream.break_down(*plan);
    outcome.failed_rows = {plan->rows()};
    CHECK(machine.take(machine.batch.advance(outcome, start)).size() == 2);
    CHECK(machine.batch.idle());
}

TEST_CASE("a stream that returns no token, or an impossible one, fails that request only") {
    batching_engine machine(small_options());
    for (std::uint64_t id = 1; id <= 3; ++id)
        REQUIRE(machine.batch.admit(make_request(id, 4), start));
    const auto plan = machine.plan();
    auto outcome = machine.stream.run(*plan);
    REQUIRE(outcome.samples.size() == 3);
    outcome.samples[2].token = fake_vocabulary;
    outcome.samples.erase(outcome.samples.begin());
    const auto outputs = machine.take(machine.batch.advance(outcome, start));
    CHECK(outputs.size() == 3);
    CHECK(machine.ended.at(1).failure->code == errc::internal);
    CHECK(machine.ended.at(3).failure->code == errc::internal);
    machine.run();
    machine.check_equals_alone(make_request(2, 4));
}
