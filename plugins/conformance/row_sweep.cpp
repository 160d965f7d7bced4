#include "plugins/conformance/case_runs.hpp"
#include "plugins/conformance/checks.hpp"

namespace moira {
namespace {

std::vector<std::uint32_t> sweep_counts(row_sweep sweep) {
    if (sweep == row_sweep::quick)
        return {1, 2, 3, 5, 8, 9, 16, 17, 33};
    std::vector<std::uint32_t> counts;
    for (std::uint32_t rows = 1; rows <= 33; ++rows)
        counts.push_back(rows);
    counts.push_back(128);
    counts.push_back(512);
    return counts;
}

/// Each count from the first row, and from a row that lies elsewhere in every kind of tile; some rows all alone.
std::vector<row_slice> sweep_slices(const std::vector<std::uint32_t>& counts, std::uint32_t rows) {
    std::vector<row_slice> slices;
    for (const std::uint32_t count : counts) {
        slices.push_back({0, count});
        const std::uint32_t begin = count * 37 % (rows - count + 1);
        if (begin != 0)
            slices.push_back({begin, count});
    }
    for (std::uint32_t row = 1; row < rows; row += 1 + row / 2) // 1, 2, 4, 7, 11, 17, ...
        slices.push_back({row, 1});
    slices.push_back({rows - 1, 1});
    return slices;
}

} // namespace

void check_row_sweep(const op_provider& tested, row_sweep sweep, const std::string& filter, check_log& log) {
    const std::uint32_t rows = sweep == row_sweep::quick ? 64 : 512;
    const auto slices = sweep_slices(sweep_counts(sweep), rows);
    for (const op_case& each : sweep_cases(rows)) {
        moira_op_support support{};
        case_output whole;
        if (each.name.find(filter) == std::string::npos || !ask_support(tested, each, support, log))
            continue;
        if (!support.row_exact && !each.offer)
            log.fail(each.name, "row sweep", "the plugin does not promise row-exact results");
        else if (run_case(tested, each, {0, rows}, "row sweep", log, whole))
            compare_slices(tested, each, whole, slices, support.row_exact != 0, "row sweep", log);
    }
}

} // namespace moira
