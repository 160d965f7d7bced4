#include "plugins/conformance/conformance.hpp"

#include "plugins/conformance/checks.hpp"
#include "plugins/plugin_file.hpp"

#include <algorithm>
#include <deque>
#include <memory>

namespace moira {
namespace {

/// Finds the plugin by its own name, whatever its class, before anything is opened.
result<found_plugin> find_plugin(const conformance_options& options) {
    const moira_device_facts facts = read_device_facts();
    for (const auto& folder : options.folders) {
        std::error_code code;
        for (std::filesystem::directory_iterator entry(folder, code), end; !code && entry != end;
             entry.increment(code)) {
            if (entry->path().extension() != ".so")
                continue;
            found_plugin found = probe_plugin(entry->path(), facts).found;
            if (found.name == options.plugin)
                return found;
        }
    }
    return fail(errc::not_found, "no plugin \"" + options.plugin + "\" in the given folders");
}

/// One opened plugin with a team of its own.
struct opened_plugin {
    compute_pool pool;
    std::unique_ptr<plugin_host> host;

    explicit opened_plugin(std::uint32_t threads) : pool({threads, 50}) {}
};

result<std::unique_ptr<opened_plugin>> open(const conformance_options& options, const std::string& name,
                                            const std::string& device_class, std::uint32_t threads) {
    auto opened = std::make_unique<opened_plugin>(threads);
    auto host = plugin_host::open({options.folders, name, device_class}, opened->pool);
    if (!host)
        return tl::unexpected<error>(host.error());
    opened->host = std::move(*host);
    return opened;
}

void run_checks(const conformance_subjects& subjects, const std::string& filter, check_log& log) {
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
    const auto found = find_plugin(options);
    if (!found)
        return tl::unexpected<error>(found.error());
    conformance_report report;
    report.plugin = options.plugin;
    if (found->score <= 0) {
        report.unusable = found->reason;
        return report;
    }
    const auto reference = open(options, "cpu_reference", "cpu", 1);
    if (!reference)
        return tl::unexpected<error>(reference.error());
    conformance_subjects subjects{&(*reference)->host->memory_provider(), {}};
    std::vector<std::unique_ptr<opened_plugin>> teams;
    for (std::uint32_t threads = 1; threads <= 3; ++threads) {
        auto team = open(options, options.plugin, found->device_class, threads);
        if (!team)
            return tl::unexpected<error>(team.error());
        subjects.tested.push_back(&(*team)->host->memory_provider());
        teams.push_back(std::move(*team));
    }
    check_log log;
    run_checks(subjects, options.filter, log);
    report.results = log.results();
    return report;
}

} // namespace moira
