#include "tools/moira/exit_codes.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("what the caller can correct ends with 2, what failed with 1, what was stopped with 130") {
    CHECK(exit_code_of(errc::invalid_config) == exit_wrong_input);
    CHECK(exit_code_of(errc::unsupported) == exit_wrong_input);
    CHECK(exit_code_of(errc::not_found) == exit_wrong_input);
    CHECK(exit_code_of(errc::budget_too_small) == exit_wrong_input);
    CHECK(exit_code_of(errc::io_error) == exit_failed);
    CHECK(exit_code_of(errc::op_missing) == exit_failed);
    CHECK(exit_code_of(errc::internal) == exit_failed);
    CHECK(exit_code_of(errc::cancelled) == exit_interrupted);
}

TEST_CASE("no error ends with success") {
    const error_table all = all_errors();
    for (const auto* row = all.begin; row != all.end; ++row)
        CHECK(exit_code_of(row->code) != exit_done);
}
