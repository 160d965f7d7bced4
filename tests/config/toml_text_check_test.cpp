#include "config/settings_load.hpp"
#include "config/toml_text_check.hpp"

#include <doctest/doctest.h>
#include <string>

using namespace moira;

TEST_CASE("text beyond ASCII may stand in strings and comments only") {
    for (const char* text : {"# ⚠\uFE0F\n", "a = \"\uFCBF\"\n", "a = '\uFCBF'\n", "a = '''\n\uFCBF'''\n",
                             "a = \"\\\"\uFCBF\"\n", "a = \"\"\"x\"\"\"\"\" # \uFCBF\n", "\xEF\xBB\xBF# mark\n",
                             "a = \"\\\\\" # \uFCBF\n", "a = \"\"\n# \uFCBF\n"})
        CHECK_MESSAGE(check_toml_text(text, "s.toml").has_value(), text);
    for (const char* text :
         {"\uFCBF = 1\n", "a = \"\"\"\n\uFCBF\n\"\"\"\n", "a = \uFCBF\n", "a = \"\" \uFCBF\n", "a = '\\' \uFCBF\n",
          "a = \"\\\\\" \uFCBF\n", "a = \"\"\"x\"\"\" \uFCBF\n", "# x\n\uFCBF\n", " \xEF\xBB\xBF\n"})
        CHECK_MESSAGE(!check_toml_text(text, "s.toml").has_value(), text);
}

TEST_CASE("control characters and endless keys are refused everywhere") {
    CHECK(!check_toml_text(std::string_view("a = \"\0\"", 7), "s.toml").has_value());
    CHECK(!check_toml_text("# \x7f", "s.toml").has_value());
    CHECK(!check_toml_text("a = 1\x0b", "s.toml").has_value());
    CHECK(check_toml_text("a = 1\t\r\n", "s.toml").has_value());
    const std::string dots(toml_dots_per_line_max, '.');
    CHECK(check_toml_text(dots + "\n" + dots, "s.toml").has_value());
    CHECK(!check_toml_text(dots + ".", "s.toml").has_value());
}

TEST_CASE("the refused line is named") {
    const auto refused = check_toml_text("a = 1\n\nb = \"\"\"\n\"\"\" \x80", "s.toml");
    REQUIRE(!refused.has_value());
    CHECK(refused.error().code == errc::invalid_config);
    CHECK(refused.error().message.starts_with("s.toml:4:"));
}

TEST_CASE("a bracket that begins a line needs a name") {
    for (const char* text : {"[\n", "[ \t\n", "[[\n", "[ =1", "a = 1\n  [\n", "[[ [", "[#", "[."})
        CHECK_MESSAGE(!check_toml_text(text, "s.toml").has_value(), text);
    for (const char* text :
         {"[log]\n", "[ log ]\n", "[[log]]\n", "a = [\n]\n", "['a']\n", "[]", "[", "a = \"\"\"\n[\n\"\"\""})
        CHECK_MESSAGE(check_toml_text(text, "s.toml").has_value(), text);
}
