#include "tools/moira/input_text.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("ids are separated by spaces, commas or lines") {
    CHECK(*parse_token_ids("1 2 3") == std::vector<token_id>{1, 2, 3});
    CHECK(*parse_token_ids(" 1,2,\n3 ") == std::vector<token_id>{1, 2, 3});
    CHECK(parse_token_ids("")->empty());
    CHECK(*parse_token_ids("2147483647") == std::vector<token_id>{2'147'483'647});
}

TEST_CASE("what is no id is refused") {
    for (const char* text : {"1 -2", "one", "1.5", "2147483648", "1 2x", "0x10"})
        CHECK_MESSAGE(parse_token_ids(text).error().code == errc::invalid_argument, text);
}

TEST_CASE("a missing file, a folder and a file that never ends are refused") {
    CHECK(read_input_text("/nonexistent/prompt.txt").error().code == errc::not_found);
    CHECK(read_input_text("/").error().code == errc::io_error);
    CHECK(read_input_text("/dev/zero").error().code == errc::prompt_too_long);
}
