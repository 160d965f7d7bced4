#pragma once

#include "plugins/conformance/conformance.hpp"
#include "plugins/conformance/op_case.hpp"

#include <vector>

namespace moira {

/// The plugin under test with three sizes of team, and the oracle.
struct conformance_subjects {
    const op_provider* reference;
    std::vector<const op_provider*> tested; ///< teams of 1, 2, 3
};

/// Values against cpu_reference within the tolerance table; the same bits for any number of rows and any team.
void check_case(const conformance_subjects& subjects, const op_case& each, check_log& log);

/// The bits of every row alone and among 1 to 33, 128 and 512 rows (quick: fewer), for every op and type of weights.
void check_row_sweep(const op_provider& tested, row_sweep sweep, const std::string& filter, check_log& log);

/// What infinities and NaN do, and that they stay in their row.
void check_special_values(const op_provider& tested, check_log& log);

/// Empty and stale experts, tokens, slots and pages out of range: the error word, its order, and that it clears.
void check_error_words(const op_provider& tested, check_log& log);

/// op_query and op_prepare refuse descriptors that make no sense.
void check_rejections(const op_provider& tested, const std::vector<op_case>& cases, check_log& log);

/// pack and unpack give the source back, write nothing else, and refuse nonsense.
void check_packing(const op_provider& tested, check_log& log);

/// A list launched at once gives the bits of its ops launched one by one; no rows are no work.
void check_lists(const op_provider& tested, check_log& log);

} // namespace moira
