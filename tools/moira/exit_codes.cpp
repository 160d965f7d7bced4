#include "tools/moira/exit_codes.hpp"

namespace moira {

exit_code exit_code_of(errc code) noexcept {
    switch (code) {
    case errc::invalid_argument:
    case errc::invalid_json:
    case errc::invalid_utf8:
    case errc::unknown_field:
    case errc::prompt_too_long:
    case errc::token_out_of_range:
    case errc::duplicate_id:
    case errc::not_found:
    case errc::unsupported:
    case errc::line_too_long:
    case errc::corrupt_file:
    case errc::invalid_config:
    case errc::budget_too_small:
        return exit_wrong_input;
    case errc::cancelled:
        return exit_interrupted;
    default:
        return exit_failed;
    }
}

} // namespace moira
