#pragma once

#include "core/base/error.hpp"

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace moira {

enum class check_outcome { passed, failed, skipped };

/// One thing that was checked, in words.
struct check_result {
    std::string subject; ///< case or op: "gemm bf16 5 rows 65x129 auto bias"
    std::string check;   ///< "reference", "rows", "team", "errors", "prepare", ...
    check_outcome outcome = check_outcome::passed;
    std::string detail; ///< measured distance, or what was found and expected
};

/// Collects results.
class check_log {
public:
    void pass(std::string subject, std::string check, std::string detail = {});
    void fail(std::string subject, std::string check, std::string detail);
    void skip(std::string subject, std::string check, std::string detail);
    /// Passes when `ok`, else fails with `detail`.
    void expect(bool ok, std::string subject, std::string check, std::string detail);

    const std::vector<check_result>& results() const noexcept { return results_; }

private:
    std::vector<check_result> results_;
};

/// Which numbers of rows are compared instead of everything else.
enum class row_sweep { none, quick, full };

struct conformance_options {
    std::vector<std::filesystem::path> folders; ///< hold the plugin and cpu_reference
    std::string plugin;
    std::string filter; ///< only subjects that contain this; empty: all
    row_sweep sweep = row_sweep::none;
};

struct conformance_report {
    std::string plugin;
    std::string unusable; ///< why the plugin cannot run on this machine; then nothing was checked
    std::vector<check_result> results;

    std::size_t count(check_outcome outcome) const noexcept;
};

/// Compares a plugin, op by op, with cpu_reference and with the promises of moira_plugin.h. Errors: not_found (no such
/// plugin in the folders), op_missing (cpu_reference cannot be opened).
result<conformance_report> run_conformance(const conformance_options& options);

/// Plain text: failures, then one line per op, then the sum. `all`: a line per check, with measured distances.
void print_report(std::ostream& out, const conformance_report& report, bool all);

} // namespace moira
