#include "plugins/conformance/conformance.hpp"

#include "plugins/conformance/checks.hpp"
#include "plugins/conformance/plugin_under_test.hpp"

#include <algorithm>
#include <memory>

namespace moira {
namespace {

void run_checks(const conformance_subjects& subjects, const conformance_options& options, check_log& log) {
    const std::string& filter = options.filter;
    if (options.sweep != row_sweep::none) // the largest team: how its work is cut depends on the rows
        return check_row_sweep(*subjects.tested.back(), options.sweep, filter, log);
    const std::vector<op_case> cases = all_cases();
    for (const op_case& each : cases) {
        if (each.name.find(filter) != std::string::npos)
            check_case(subjects, each, log);
    }
    if (!filter.empty())
        return;
    const op_provider& tested = *subjects.tested.front();
    check_special_values(tested, log);
    check_error_words(tested, log);
    check_rejections(tested, cases, log);
    check_packing(tested, log);
    for (const op_provider* team : subjects.tested)
        check_lists(*team, log);
}

} // namespace

void check_log::pass(std::string subject, std::string check, std::string detail) {
    results_.push_back({std::move(subject), std::move(check), check_outcome::passed, std::move(detail)});
}

void check_log::fail(std::string subject, std::string check, std::string detail) {
    results_.push_back({std::move(subject), std::move(check), check_outcome::failed, std::move(detail)});
}

void check_log::skip(std::string subject, std::string check, std::string detail) {
    results_.push_back({std::move(subject), std::move(check), check_outcome::skipped, std::move(detail)});
}

void check_log::expect(bool ok, std::string subject, std::string check, std::string detail) {
    results_.push_back(
        {std::move(subject), std::move(check), ok ? check_outcome::passed : check_outcome::failed, std::move(detail)});
}

std::size_t conformance_report::count(check_outcome outcome) const noexcept {
    return static_cast<std::size_t>(std::count_if(results.begin(), results.end(),
                                                  [&](const check_result& each) { return each.outcome == outcome; }));
}

result<conformance_report> run_conformance(const conformance_options& options) {
    const auto found = find_plugin(options.folders, options.plugin);
    if (!found)
        return tl::unexpected<error>(found.error());
    conformance_report report;
    report.plugin = options.plugin;
    if (found->score <= 0) {
        report.unusable = found->reason;
        return report;
    }
    const auto reference = open_plugin_under_test(options.folders, "cpu_reference", "cpu", 1);
    if (!reference)
        return tl::unexpected<error>(reference.error());
    conformance_subjects subjects{&(*reference)->provider(), {}};
    std::vector<std::unique_ptr<plugin_under_test>> teams;
    for (std::uint32_t threads = 1; threads <= 3; ++threads) {
        auto team = open_plugin_under_test(options.folders, options.plugin, found->device_class, threads);
        if (!team)
            return tl::unexpected<error>(team.error());
        subjects.tested.push_back(&(*team)->provider());
        teams.push_back(std::move(*team));
    }
    check_log log;
    run_checks(subjects, options, log);
    report.results = log.results();
    return report;
}

} // namespace moira
