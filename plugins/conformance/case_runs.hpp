#pragma once

#include "plugins/conformance/conformance.hpp"
#include "plugins/conformance/op_case.hpp"

#include <vector>

namespace moira {

/// Runs on a session of its own; logs what failed. False then.
bool run_case(const op_provider& provider, const op_case& each, row_slice slice, const char* check, check_log& log,
              case_output& out);

bool same_bits(const case_output& a, const case_output& b);

/// The part of a whole run that belongs to a slice.
case_output part_of(const case_output& whole, const op_case& each, row_slice slice);

/// What the plugin says about the case's op. False when it does not support it (skipped) or cannot say (failed).
bool ask_support(const op_provider& tested, const op_case& each, moira_op_support& support, check_log& log);

/// The slices alone against the whole run, bit by bit. Where nothing is promised, what was found is told as skipped.
void compare_slices(const op_provider& tested, const op_case& each, const case_output& whole,
                    const std::vector<row_slice>& slices, bool promised, const char* check, check_log& log);

} // namespace moira
