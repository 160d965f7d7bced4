#include "plugins/conformance/conformance.hpp"

#include <map>
#include <ostream>

namespace moira {
namespace {

const char* word(check_outcome outcome) {
    return outcome == check_outcome::passed ? "passed" : outcome == check_outcome::failed ? "FAILED" : "skipped";
}

/// "gemm bf16 ..." counts for gemm.
std::string first_word(const std::string& subject) {
    return subject.substr(0, subject.find(' '));
}

void print_line(std::ostream& out, const check_result& each) {
    out << word(each.outcome) << "  " << each.subject << "  [" << each.check << "]";
    if (!each.detail.empty() && (each.outcome != check_outcome::passed || each.check == "reference"))
        out << "  " << each.detail;
    out << '\n';
}

struct tally {
    std::size_t passed = 0;
    std::size_t failed = 0;
    std::size_t skipped = 0;
};

} // namespace

void print_report(std::ostream& out, const conformance_report& report, bool all) {
    if (!report.unusable.empty()) {
        out << report.plugin << " cannot run on this machine: " << report.unusable << '\n';
        return;
    }
    std::map<std::string, tally> ops;
    for (const check_result& each : report.results) {
        tally& op = ops[first_word(each.subject)];
        ++(each.outcome == check_outcome::passed   ? op.passed
           : each.outcome == check_outcome::failed ? op.failed
                                                   : op.skipped);
        if (all || each.outcome == check_outcome::failed)
            print_line(out, each);
    }
    for (const auto& [op, counts] : ops)
        out << op << ": " << counts.passed << " passed, " << counts.failed << " failed, " << counts.skipped
            << " skipped\n";
    out << report.plugin << ": " << report.count(check_outcome::passed) << " passed, "
        << report.count(check_outcome::failed) << " failed, " << report.count(check_outcome::skipped) << " skipped\n";
}

} // namespace moira
