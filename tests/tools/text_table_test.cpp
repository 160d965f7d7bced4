#include "tools/moira/text_table.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("columns are as wide as their widest cell, counted in characters") {
    text_table table({"A", "B"});
    table.add({"äöü", "1"});
    table.add({"x"});
    CHECK(table.print(false) == "A    B\näöü  1\nx\n");
}

TEST_CASE("colour appears only when asked for") {
    text_table table({"A"});
    CHECK(table.print(false).find('\x1b') == std::string::npos);
    CHECK(table.print(true).find('\x1b') != std::string::npos);
}

TEST_CASE("bytes are rounded to what a person reads") {
    CHECK(rounded_bytes(0) == "0 B");
    CHECK(rounded_bytes(1'023) == "1023 B");
    CHECK(rounded_bytes(1'536) == "1.5 KiB");
    CHECK(rounded_bytes(std::uint64_t{250} << 20) == "250 MiB");
}
