#include "config/byte_size.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

std::uint64_t bytes_of(const char* text) {
    const auto size = parse_byte_size(text);
    REQUIRE_MESSAGE(size.has_value(), text);
    return size->bytes;
}

} // namespace

TEST_CASE("a byte size is read in binary and decimal units") {
    CHECK(bytes_of("2GiB") == std::uint64_t{2} << 30);
    CHECK(bytes_of("1.5 GB") == 1'500'000'000);
    CHECK(bytes_of("512MiB") == std::uint64_t{512} << 20);
    CHECK(bytes_of("1kB") == 1'000);
    CHECK(bytes_of("1kib") == 1'024);
    CHECK(bytes_of(" 7 B ") == 7);
    CHECK(bytes_of("1048576") == 1'048'576);
    CHECK(bytes_of("0") == 0);
    CHECK(bytes_of("0.5KiB") == 512);
    CHECK(bytes_of("9223372036854775807") == 9'223'372'036'854'775'807ULL);
}

TEST_CASE("what is not a byte size is refused") {
    for (const char* text :
         {"", " ", "GiB", "-1", "1.5", "1.5B", "1e9", "inf", "nan", "0x10", "1 GiB 2", "1PiB", "9223372036854775808",
          "16777216TiB", "99999999999999999999999", "1..5GiB", ".GiB", "50%", "1.0e300TiB"}) {
        const auto size = parse_byte_size(text);
        REQUIRE_MESSAGE(!size.has_value(), text);
        CHECK(size.error().code == errc::invalid_argument);
    }
}

TEST_CASE("a budget is bytes or a share, and a share needs a total") {
    const auto half = parse_memory_budget("50%");
    REQUIRE(half.has_value());
    CHECK(half->kind_of == memory_budget::kind::share);
    CHECK(half->resolve(1'001) == 500);
    CHECK(parse_memory_budget("100 %")->resolve(UINT64_MAX) == UINT64_MAX);
    CHECK(parse_memory_budget("0.5%")->resolve(1'000) == 5);
    CHECK(parse_memory_budget("2GiB")->resolve(10) == std::uint64_t{2} << 30);
    CHECK(*parse_memory_budget(" auto ") == memory_budget::what_fits());
    CHECK(memory_budget::what_fits().resolve(1'001) == 1'001);
    CHECK(format_memory_budget(memory_budget::what_fits()) == "auto");
    for (const char* text : {"0%", "0.0009%", "100.1%", "-5%", "%", "nan%", "1e1%", "5 0%", "half", "auto%", "automatic"})
        CHECK_MESSAGE(!parse_memory_budget(text).has_value(), text);
}

TEST_CASE("what is written is read back exactly") {
    for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1'000}, std::uint64_t{1'536},
                                      std::uint64_t{3} << 30, std::uint64_t{1} << 45}) {
        const auto again = parse_byte_size(format_byte_size({bytes}));
        REQUIRE(again.has_value());
        CHECK(again->bytes == bytes);
    }
    CHECK(format_byte_size({std::uint64_t{2} << 30}) == "2GiB");
    CHECK(format_memory_budget(memory_budget::of_share(0.25)) == "25%");
    CHECK(format_memory_budget(memory_budget::of_bytes(4096)) == "4KiB");
    CHECK(parse_memory_budget(format_memory_budget(*parse_memory_budget("0.001%"))).has_value());
}
