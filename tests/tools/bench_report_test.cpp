#include "tools/moira/bench_report.hpp"

#include <algorithm>
#include <doctest/doctest.h>

using namespace moira;

namespace {

bench_row example_row() {
    bench_row row;
    row.options = {4, 100, 50, 3};
    row.prefill_tok_s = {900, 1'000, 1'100};
    row.decode_tok_s = {190, 200, 250};
    row.probe_gb_s = {9, 10, 8, 7};
    row.probe_kernel = "words";
    row.bytes_per_token = 2e7;
    row.sequence_hashes = {"0123456789abcdef", "1123456789abcdef", "2123456789abcdef", "3123456789abcdef"};
    row.hits = 3;
    row.demand_loads = 1;
    row.after.overhead_us_p50 = 12;
    row.after.overhead_us_p99 = 34;
    return row;
}

} // namespace

TEST_CASE("a row's JSON has the promised fields, from the medians and the best probe") {
    const auto value = bench_row_json({"demo", 2, 1 << 21}, example_row());
    CHECK(value.at("batch") == 4);
    CHECK(value.at("threads") == 2);
    CHECK(value.at("prefill_tok_s") == 1'000.0);
    CHECK(value.at("decode_tok_s") == 200.0);
    CHECK(value.at("bytes_per_token") == 2e7);
    CHECK(value.at("gb_s").get<double>() == doctest::Approx(4.0));
    CHECK(value.at("probe_gb_s") == 10.0);
    CHECK(value.at("bandwidth_share").get<double>() == doctest::Approx(0.4));
    CHECK(value.at("overhead_us").at("p50") == 12.0);
    CHECK(value.at("overhead_us").at("p99") == 34.0);
    CHECK(value.at("logits_hash").get<std::string>().size() == 16);
    CHECK(value.at("experts").at("hit_rate") == 0.75);
    CHECK(value.at("probe").at("median_gb_s") == 8.5);
}

TEST_CASE("the table has a line per row and no number that is not finite when nothing was measured") {
    const auto text = bench_table({"demo", 2, 1 << 21}, {example_row(), bench_row{}}, false);
    CHECK(std::count(text.begin(), text.end(), '\n') == 4);
    CHECK(text.find("200.0") != std::string::npos);
    CHECK(text.find("nan") == std::string::npos);
    CHECK(text.find("inf") == std::string::npos);
}
