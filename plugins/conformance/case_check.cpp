#include "plugins/conformance/case_runs.hpp"
#include "plugins/conformance/checks.hpp"
#include "plugins/conformance/tolerance.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace moira {
namespace {

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2e", value);
    return text;
}

double root_mean_square(const std::vector<float>& values) {
    double sum = 0;
    for (const float value : values)
        sum += std::isfinite(value) ? double{value} * double{value} : 0;
    return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

/// See tolerance.hpp. Infinite when one side is NaN or infinite and the other is not the same.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
    constexpr double infinite = std::numeric_limits<double>::infinity();
    if (got.size() != want.size())
        return infinite;
    double largest = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        if (got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
            continue;
        const double difference = std::fabs(double{got[i]} - double{want[i]});
        largest = std::max(largest, std::isfinite(difference) ? difference : infinite);
    }
    return largest == 0 ? 0 : largest / root_mean_square(want);
}

void compare_with_reference(const op_case& each, const case_output& got, const case_output& want, check_log& log) {
    const tolerance& limit = tolerance_for(each.header().op, each.narrow);
    const double far = distance(got.values, want.values);
    const std::string measured = "distance " + number(far) + " of " + number(limit.distance_max);
    log.expect(got.ids == want.ids && far <= limit.distance_max, each.name, "reference",
               got.ids == want.ids ? measured : "other ids than cpu_reference");
}

void check_rows(const op_provider& tested, const op_case& each, const case_output& whole, bool promised,
                check_log& log) {
    const std::uint32_t half = each.rows / 2;
    std::vector<row_slice> slices = {{0, 1}, {each.rows - 1, 1}, {half, 1}};
    if (half > 0) {
        slices.push_back({0, half});
        slices.push_back({half, each.rows - half});
    }
    compare_slices(tested, each, whole, slices, promised, "rows", log);
}

void check_teams(const conformance_subjects& subjects, const op_case& each, const case_output& alone, check_log& log) {
    for (std::size_t i = 1; i < subjects.tested.size(); ++i) {
        case_output shared;
        if (!run_case(*subjects.tested[i], each, {0, each.rows}, "team", log, shared))
            return;
        if (!same_bits(shared, alone))
            return log.fail(each.name, "team", "a team of " + std::to_string(i + 1) + " gives other bits than one");
    }
    log.pass(each.name, "team");
}

} // namespace

void check_case(const conformance_subjects& subjects, const op_case& each, check_log& log) {
    const op_provider& tested = *subjects.tested.front();
    moira_op_support support{};
    if (!ask_support(tested, each, support, log))
        return;
    log.expect(support.numerics_id[0] != 0, each.name, "query", "a supported op without numerics_id");
    case_output got;
    if (!run_case(tested, each, {0, each.rows}, "reference", log, got))
        return;
    case_output want;
    if (run_case(*subjects.reference, each, {0, each.rows}, "reference", log, want))
        compare_with_reference(each, got, want, log);
    if (support.row_exact || each.offer)
        check_rows(tested, each, got, support.row_exact != 0, log);
    else
        log.fail(each.name, "rows", "the plugin does not promise row-exact results");
    if (support.thread_exact)
        check_teams(subjects, each, got, log);
    else
        log.skip(each.name, "team", "the plugin does not promise it");
}

} // namespace moira
