#include "core/base/error.hpp"

#include <doctest/doctest.h>
#include <set>
#include <string_view>

using namespace moira;

TEST_CASE("every error code has a row of its own with a unique wire name") {
    std::set<std::string_view> names;
    int expected_code = 0;
    const auto table = all_errors();
    for (const auto* row = table.begin; row != table.end; ++row) {
        CHECK(static_cast<int>(row->code) == expected_code++);
        CHECK(names.insert(row->name).second);
        CHECK(&describe(row->code) == row);
        CHECK(row->http_status >= 400);
        CHECK(!row->advice.empty());
    }
    CHECK(expected_code == static_cast<int>(errc::internal) + 1);
}
