#include "core/base/json_depth.hpp"

#include <doctest/doctest.h>
#include <string>

using namespace moira;

TEST_CASE("nesting is counted outside strings only") {
    CHECK_FALSE(json_nests_deeper_than("", 0));
    CHECK_FALSE(json_nests_deeper_than("[[]]", 2));
    CHECK(json_nests_deeper_than("[[]]", 1));
    CHECK_FALSE(json_nests_deeper_than(R"(["[[[[", "\"[[["])", 1));
    CHECK_FALSE(json_nests_deeper_than("[][][][]", 1));
    CHECK(json_nests_deeper_than(R"({"a":[{"b":1}]})", 2));
}

TEST_CASE("a hostile document is refused after the bound, whatever its length") {
    CHECK(json_nests_deeper_than(std::string(10'000'000, '['), 64));
    CHECK_FALSE(json_nests_deeper_than("]]]]" + std::string(64, '['), 64));
}
