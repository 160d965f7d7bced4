#include "core/evaluate/golden.hpp"

#include "tests/execute/test_engine.hpp"

#include <doctest/doctest.h>
#include <limits>

using namespace moira;

namespace {

std::vector<std::filesystem::path> golden_models() {
    return {golden_folder("deepseek_v3"), golden_folder("olmoe"), golden_folder("qwen3_moe"),
            std::filesystem::path(MOIRA_SOURCE_DIRECTORY) / "config/models/moira-demo"};
}

golden_limits limits_for(const std::string& plugin, const std::filesystem::path& folder) {
    if (plugin == "cpu_reference")
        return {};
    const auto of_bf16 = read_bf16_limits(folder);
    REQUIRE_MESSAGE(of_bf16, of_bf16.error().message);
    REQUIRE(*of_bf16);
    return **of_bf16;
}

/// The reference plugin and the tiny DeepSeek model, for what a spoilt record must show.
golden_report compare(const golden_record& record) {
    test_engine::wanted how;
    how.options.context_max = 128;
    auto opened = test_engine::required(golden_folder("deepseek_v3"), how);
    const auto report = compare_with_golden(*opened.model, record, {});
    REQUIRE_MESSAGE(report, report.error().message);
    return *report;
}

golden_record tiny_record() {
    auto record = read_golden(golden_folder("deepseek_v3"));
    REQUIRE_MESSAGE(record, record.error().message);
    return std::move(*record);
}

} // namespace

TEST_CASE("every model agrees with its golden record on every plugin") {
    for (const auto& folder : golden_models()) {
        const auto record = read_golden(folder);
        REQUIRE_MESSAGE(record, record.error().message);
        CHECK(record->absent.empty());
        for (const auto& plugin : runnable_plugins()) {
            INFO(plugin, " on ", folder.filename().string());
            test_engine::wanted how;
            how.plugin = plugin;
            how.threads = 2;
            how.options.mtp = !record->mtp_logits.empty();
            auto opened = test_engine::required(folder, how);
            const auto report = compare_with_golden(*opened.model, *record, limits_for(plugin, folder));
            REQUIRE_MESSAGE(report, report.error().message);
            for (const auto& violation : report->violations)
                FAIL_CHECK(violation);
            CHECK(report->passed());
            CHECK(report->rows == static_cast<std::int32_t>(record->input_ids.size()));
            CHECK(report->greedy_match + report->greedy_skipped == report->greedy_steps);
            CHECK(report->greedy_match > 0);
            if (plugin == "cpu_reference")
                CHECK(report->hidden_max_error < 1e-3);
            CHECK(report->mtp_max_error.has_value() == how.options.mtp);
            if (plugin == "cpu_reference" && how.options.mtp)
                CHECK(*report->mtp_max_error < 1e-3);
        }
    }
}

TEST_CASE("a wrong logit is a violation") {
    auto record = tiny_record();
    record.logits[record.logits.size() / 2] += 0.01F;
    const auto report = compare(record);
    CHECK_FALSE(report.passed());
    CHECK(report.max_abs_error > 0.009);
}

TEST_CASE("the prediction layer is compared where it was loaded, and a wrong logit of it is a violation") {
    const auto folder = std::filesystem::path(MOIRA_SOURCE_DIRECTORY) / "config/models/moira-demo";
    auto record = read_golden(folder);
    REQUIRE_MESSAGE(record, record.error().message);
    REQUIRE(record->mtp_logits.size() == (record->input_ids.size() - 1) * static_cast<std::size_t>(record->vocabulary));
    record->mtp_logits[5] += 0.01F;
    test_engine::wanted how;
    for (const bool mtp : {false, true}) {
        how.options.mtp = mtp;
        auto opened = test_engine::required(folder, how);
        const auto report = compare_with_golden(*opened.model, *record, {});
        REQUIRE_MESSAGE(report, report.error().message);
        CHECK(report->passed() != mtp);
        CHECK(report->mtp_max_error.has_value() == mtp);
    }
}

TEST_CASE("a logit that is not a number is a violation") {
    auto record = tiny_record();
    record.logits[7] = std::numeric_limits<float>::quiet_NaN();
    CHECK_FALSE(compare(record).passed());
}

TEST_CASE("other experts than the record's are a violation") {
    auto record = tiny_record();
    auto& of_layer = record.routing.begin()->second;
    of_layer[0] = (of_layer[0] + 1) % 16;
    const auto report = compare(record);
    CHECK_FALSE(report.passed());
    CHECK(report.rows_rerouted >= 1);
}

TEST_CASE("another greedy token is a violation") {
    auto record = tiny_record();
    record.greedy_ids.back() = (record.greedy_ids.back() + 1) % 320;
    const auto report = compare(record);
    CHECK_FALSE(report.passed());
    CHECK(report.greedy_match + report.greedy_skipped == report.greedy_steps - 1);
}

TEST_CASE("a record without some of the tensors is compared as far as it goes") {
    auto record = tiny_record();
    record.hidden.clear();
    record.routing.clear();
    record.greedy_ids.clear();
    record.greedy_logits.clear();
    const auto report = compare(record);
    CHECK(report.passed());
    CHECK(report.rows == static_cast<std::int32_t>(record.input_ids.size()));
    CHECK(report.greedy_steps == 0);
}

TEST_CASE("greedy tokens can be compared without any logits") {
    auto record = tiny_record();
    record.logits.clear();
    record.greedy_logits.clear();
    record.vocabulary = 0;
    const auto report = compare(record);
    CHECK(report.passed());
    CHECK(report.greedy_match == report.greedy_steps);
}

TEST_CASE("a record of another model is refused") {
    test_engine::wanted how;
    how.options.context_max = 128;
    auto opened = test_engine::required(golden_folder("deepseek_v3"), how);
    const auto code = [&](auto spoil) {
        auto record = tiny_record();
        spoil(record);
        const auto report = compare_with_golden(*opened.model, record, {});
        REQUIRE_FALSE(report);
        return report.error().code;
    };
    CHECK(code([](golden_record& r) { r.vocabulary = 321; }) == errc::corrupt_file);
    CHECK(code([](golden_record& r) {
              r.logits.clear();
              r.vocabulary = 4000;
          }) == errc::corrupt_file);
    CHECK(code([](golden_record& r) { r.hidden_width = 65; }) == errc::corrupt_file);
    CHECK(code([](golden_record& r) { r.top_k = 2; }) == errc::corrupt_file);
    CHECK(code([](golden_record& r) { r.hidden[99] = r.hidden.begin()->second; }) == errc::corrupt_file);
    CHECK(code([](golden_record& r) { r.input_ids[0] = 320; }) == errc::token_out_of_range);
    CHECK(code([](golden_record& r) { r.greedy_ids[0] = -1; }) == errc::token_out_of_range);
    CHECK(code([](golden_record& r) { r.input_ids.resize(200, 1); }) == errc::prompt_too_long);
}

TEST_CASE("a pass over a text keeps no more than it was allowed to") {
    auto opened = test_engine::required(golden_folder("qwen3_moe"), {});
    const auto ids = some_tokens(10);
    prompt_pass_options options;
    options.kept_bytes_max = 100;
    const auto refused = run_prompt(*opened.model, ids, options);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::invalid_argument);
    const auto empty = run_prompt(*opened.model, {}, {});
    REQUIRE_FALSE(empty);
    CHECK(empty.error().code == errc::invalid_argument);
}
