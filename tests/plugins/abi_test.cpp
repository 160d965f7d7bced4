#include "plugins/moira_plugin.h"

#include <cstring>
#include <doctest/doctest.h>
#include <fstream>
#include <iterator>
#include <string>
#include <type_traits>

extern "C" std::uint64_t moira_abi_c11_api_bytes();

namespace {

std::string read_header() {
    std::ifstream in(MOIRA_SOURCE_DIRECTORY "/plugins/moira_plugin.h");
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::size_t count(const std::string& text, const std::string& word) {
    std::size_t times = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1))
        ++times;
    return times;
}

} // namespace

TEST_CASE("every struct keeps its size and offsets") {
#define MOIRA_SIZE(type, bytes)                                                                                        \
    CHECK_MESSAGE(sizeof(type) == (bytes), #type " changed its size");                                                 \
    CHECK(std::is_trivially_copyable_v<type>);
#define MOIRA_AT(type, field, bytes) CHECK_MESSAGE(offsetof(type, field) == (bytes), #type "." #field " moved");
#include "tests/plugins/abi_layout.inc"
#undef MOIRA_SIZE
#undef MOIRA_AT
}

TEST_CASE("no struct of the header is missing from the pinned layout") {
    std::size_t pinned = 0;
#define MOIRA_SIZE(type, bytes) ++pinned;
#define MOIRA_AT(type, field, bytes)
#include "tests/plugins/abi_layout.inc"
#undef MOIRA_SIZE
#undef MOIRA_AT
    const std::string header = read_header();
    // "typedef struct x {" defines a struct; "typedef struct x x;" only names an opaque handle.
    std::size_t defined = 0;
    for (std::size_t at = header.find("typedef struct "); at != std::string::npos;
         at = header.find("typedef struct ", at + 1))
        defined += header.substr(at, header.find('\n', at) - at).ends_with('{') ? 1 : 0;
    CHECK(pinned == defined);
}

TEST_CASE("the header includes nothing but stdint.h and stddef.h") {
    const std::string header = read_header();
    CHECK(count(header, "#include") == 2);
    CHECK(count(header, "#include <stdint.h>") == 1);
    CHECK(count(header, "#include <stddef.h>") == 1);
}

TEST_CASE("C and C++ agree on the table") {
    CHECK(moira_abi_c11_api_bytes() == sizeof(moira_plugin_api));
}

TEST_CASE("the names of the exported functions carry the major version") {
    const std::string suffix = "_v" + std::to_string(MOIRA_ABI_MAJOR);
    CHECK(std::string(MOIRA_PLUGIN_PROBE_SYMBOL).ends_with(suffix));
    CHECK(std::string(MOIRA_PLUGIN_OPEN_SYMBOL).ends_with(suffix));
}
