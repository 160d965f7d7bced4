#pragma once

#include "core/base/error.hpp"

namespace moira {

/// What the shell sees. Scripts rely on these numbers.
enum exit_code : int {
    exit_done = 0,
    exit_failed = 1,      ///< the work failed; the message says what to do
    exit_wrong_input = 2, ///< the command line, the settings or the input was wrong
    exit_check_failed = 3,
    exit_interrupted = 130,
};

/// The exit code with which a command ends on `code`: 2 when the caller can correct it, 130 when it was stopped.
exit_code exit_code_of(errc code) noexcept;

} // namespace moira
