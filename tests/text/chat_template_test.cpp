#include "core/text/chat_template.hpp"

#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace {

using moira::errc;
using json = nlohmann::ordered_json;
using conversation = std::vector<moira::chat_message>;

/// The rendered text, or the error's message behind "ERROR ".
std::string render(const std::string& source, const json& variables = json::object()) {
    const auto parsed = moira::chat_template::parse(source);
    if (!parsed)
        return "REFUSED " + parsed.error().message;
    const auto text = parsed->render(variables);
    return text ? *text : "ERROR " + text.error().message;
}

errc parse_error(const std::string& source) {
    const auto parsed = moira::chat_template::parse(source);
    REQUIRE_FALSE(parsed.has_value());
    return parsed.error().code;
}

errc render_error(const std::string& source, const json& variables = json::object(),
                  const moira::chat_template::limits& bounds = {}) {
    const auto parsed = moira::chat_template::parse(source, bounds);
    REQUIRE(parsed.has_value());
    const auto text = parsed->render(variables);
    REQUIRE_FALSE(text.has_value());
    return text.error().code;
}

} // namespace

TEST_CASE("the bundled model's template writes conversations") {
    const auto loaded = moira::chat_template::load(MOIRA_SOURCE_DIRECTORY "/config/models/moira-demo");
    REQUIRE(loaded.has_value());
    const conversation talk = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello"}, {"user", "Bye"}};
    CHECK(loaded->render(talk).value() ==
          "<|begin▁of▁sentence|>Be brief.\n<|User|>Hi<|Assistant|>Hello<|end▁of▁sentence|>"
          "<|User|>Bye<|Assistant|>");
    CHECK(loaded->render(conversation{{"user", "Hi"}}, false).value() == "<|begin▁of▁sentence|><|User|>Hi");
    const auto refused = loaded->render(conversation{{"tool", "x"}});
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == errc::invalid_argument);
    CHECK(refused.error().message == "roles are system, user and assistant");
}

TEST_CASE("white space around tags is kept and removed as in transformers") {
    CHECK(render("a\n  {% if true %}\nb\n  {% endif %}\nc\n") == "a\nb\nc");
    CHECK(render("a\n {%- if true -%} \n b {%- endif %}\nc") == "abc");
    CHECK(render("a {{- 1 -}} b") == "a1b");
    CHECK(render("  {{ 1 }}\nb") == "  1\nb");
    CHECK(render("x {% if true %} y{% endif %}") == "x  y");
    CHECK(render(" {%+ if true %} y{% endif %}") == "  y");
    CHECK(render("{% if true +%}\ny{% endif %}") == "\ny");
    CHECK(render("a\n  {# note #}\nb") == "a\nb");
    CHECK(render("a {#- note -#} b") == "ab");
    CHECK(render("a\r\nb\r\n") == "a\nb");
    CHECK(render("{{ '}}' }}{{ {'a': {'b': 1}}['a']['b'] }}") == "}}1");
}

TEST_CASE("conditions, loops and their variables") {
    CHECK(render("{% if a %}1{% elif b %}2{% else %}3{% endif %}", {{"a", ""}, {"b", {1}}}) == "2");
    CHECK(render("{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ x }}{{ '' if loop.last else ',' }}{% endfor %}",
                 {{"l", {"a", "b"}}}) == "10a,21b");
    CHECK(render("{% for x in [] %}x{% else %}none{% endfor %}") == "none");
    CHECK(render("{% for x in range(5) if x is odd %}{{ x }}{{ loop.length }}{% endfor %}") == "1232");
    CHECK(render("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", {{"d", {{"z", 1}, {"a", 2}}}}) ==
          "z=1;a=2;");
    CHECK(render("{% for x in [1,2,3,4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}"
                 "{{ x }}{% endfor %}") == "13");
    CHECK(render("{% for x in 'aé你' %}{{ x }}.{% endfor %}") == "a.é.你.");
    CHECK(render("{% for x in nothing %}{% endfor %}ok") == "ok");
}

TEST_CASE("what a loop sets stays inside, a namespace carries it out") {
    CHECK(render("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}") == "21");
    CHECK(render("{% set n = namespace(x=1) %}{% for i in [1,2] %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}") ==
          "4");
    CHECK(render("{% if true %}{% set x = 3 %}{% endif %}{{ x }}") == "3");
    CHECK(render("{% set x %}a{{ 1 }}{% endset %}[{{ x }}]") == "[a1]");
    CHECK(render("{% set a, b = [1, 2] %}{{ b }}{{ a }}") == "21");
}

TEST_CASE("operators have the values and the precedence of Jinja") {
    CHECK(render("{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 4 / 2 }}") ==
          "7 3 -4 2 3.5 2.0");
    CHECK(render("{{ 'a' ~ 1 + 2 ~ 'b' }}") == "a12b"); // ~ binds tighter than +
    CHECK(render("{{ 'a' ~ 1 ~ none ~ true }}") == "a1NoneTrue");
    CHECK(render("{{ 'ab' + 'c' }} {{ [1] + [2] }} {{ 'ab' * 2 }}") == "abc [1, 2] abab");
    CHECK(render("{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ '1' == 1 }}") ==
          "True False True True False");
    CHECK(render("{{ not a == 1 }} {{ a in [1, 2] }} {{ 'x' not in 'abc' }} {{ 'k' in {'k': 1} }}", {{"a", 1}}) ==
          "False True True True");
    CHECK(render("{{ 0 or 'x' }} {{ 'a' and '' }}| {{ 1 if false }}|") == "x | |");
    CHECK(render("{{ not x is defined }} {{ x is not defined and 1 == 1 }}") == "True True");
    CHECK(render("{{ 'a' if x else 'b' if y else 'c' }}", {{"x", false}, {"y", true}}) == "b");
}

TEST_CASE("subscripts, slices and attributes") {
    const json variables = {{"m", {{{"role", "user"}}, {{"role", "tool"}}}}, {"s", "héllo"}};
    CHECK(render("{{ m[0].role }} {{ m[-1]['role'] }} {{ m.0.role }} {{ m[5] is defined }}", variables) ==
          "user tool user False");
    CHECK(render("{{ s[1] }} {{ s[1:3] }} {{ s[-2:] }} {{ s[::-1] }} {{ s|length }}", variables) == "é él lo olléh 5");
    CHECK(render("{% for x in m[1:] %}{{ x.role }}{% endfor %}{{ [1,2,3][::-1] }}", variables) == "tool[3, 2, 1]");
    CHECK(render("{{ [1,2,3][9223372036854775807::9223372036854775807] }}") == "[]");
    CHECK(render("[{{ m[0].absent }}]", variables) == "[]");
    CHECK(render_error("{{ a.b }}") == errc::invalid_argument);
    CHECK(render_error("{{ m[0].absent.deeper }}", variables) == errc::invalid_argument);
}

TEST_CASE("tests tell kinds of values apart") {
    CHECK(
        render("{{ a is defined }}{{ a is none }}{{ b is none }}{{ c is string }}{{ d is mapping }}{{ e is iterable }}",
               {{"b", nullptr}, {"c", "x"}, {"d", json::object()}, {"e", json::array()}}) ==
        "FalseFalseTrueTrueTrueTrue");
    CHECK(render("{{ 6 is divisibleby 3 }}{{ 'a' is equalto('a') }}{{ true is boolean }}{{ 1.5 is number }}") ==
          "TrueTrueTrueTrue");
}

TEST_CASE("filters and methods on text") {
    CHECK(render("[{{ '  a b \n' | trim }}] {{ 'aB' | upper }} {{ 'aB'.lower() }}") == "[a b] AB ab");
    CHECK(render("{{ [1, 'a', none] | join('-') }} {{ x | default('d') }} {{ '' | default('e', true) }}") ==
          "1-a-None d e");
    CHECK(render("{{ 'xxaxx'.strip('x') }} {{ 'xxa'.lstrip('x') }} [{{ 'a '.rstrip() }}]") == "a a [a]");
    CHECK(render("{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('x') }} {{ 'abc'.startswith(['x', 'a']) }}") ==
          "True False True");
    CHECK(render(
              "{{ 'a</think>b</think>c'.split('</think>')[-1] }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }}") ==
          "c ['a', 'b'] ['a', 'b,c']");
    CHECK(render("{{ 'aXbX'.replace('X', '--') }} {{ 'abc' | length }} {{ [] | length }} {{ '12' | int + 1 }}") ==
          "a--b-- 3 0 13");
    CHECK(render("{{ m | selectattr('r', 'equalto', 'u') | map(attribute='c') | list }}",
                 {{"m", {{{"r", "u"}, {"c", 1}}, {{"r", "a"}, {"c", 2}}}}}) == "[1]");
}

TEST_CASE("values are written as Python and as JSON write them") {
    const json value = {{"a", {1, 2.5, true, nullptr}}, {"b", "é\"\n"}};
    CHECK(render("{{ v | tojson }}", {{"v", value}}) == R"({"a": [1, 2.5, true, null], "b": "é\"\n"})");
    CHECK(render("{{ v | tojson(indent=2) }}", {{"v", {{"a", {1}}, {"b", json::array()}}}}) ==
          "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}");
    CHECK(render("{{ v }}", {{"v", {{"a", "it's"}, {"b", {true}}}}}) == R"({'a': "it's", 'b': [True]})");
    CHECK(render("{{ 1.0 }} {{ 1e16 }} {{ 0.00001 }} {{ 123456.75 }} {{ none }} {{ -3 }}") ==
          "1.0 1e+16 1e-05 123456.75 None -3");
}

TEST_CASE("escapes in strings") {
    CHECK(render(R"({{ 'a\n\t\'\"\\\x41\u00e9\q' }})") == "a\n\t'\"\\A\u00e9\\q");
    CHECK(parse_error(R"({{ '\ud800' }})") == errc::corrupt_file);
    CHECK(render("{{ 'a' \"b\" }}") == "ab");
}

TEST_CASE("the day can be fixed for a template that asks for it") {
    CHECK(render("{{ strftime_now('%d %b %Y') }}", {{"now", "2026-01-31T12:34:56"}}) == "31 Jan 2026");
    CHECK(render("{{ strftime_now is defined }}") == "True");
}

TEST_CASE("what is not known is unsupported, with the line") {
    for (const char* source : {"{{ x | sha256 }}", "{{ x is purple }}", "{{ x.shuffle() }}", "{{ lipsum() }}",
                               "{% include 'a' %}", "{{ 2 ** 3 }}", "{{ f(*x) }}"}) {
        CAPTURE(source);
        const auto parsed = moira::chat_template::parse(std::string("\n\n") + source);
        REQUIRE_FALSE(parsed.has_value());
        CHECK((parsed.error().code == errc::unsupported));
        CHECK(parsed.error().message.find("line 3") != std::string::npos);
    }
}

TEST_CASE("what is not known may stand in a branch that is not taken") {
    const char* source = "{% if tools %}{{ tools | sha256 }}{{ frobnicate() }}{{ tools is purple }}{% endif %}ok";
    CHECK(render(source) == "ok");
    CHECK(render_error(source, {{"tools", "x"}}) == errc::invalid_argument);
    CHECK(parse_error("{% if tools | sha256 %}{% endif %}") == errc::unsupported);
}

TEST_CASE("what is not Jinja is corrupt") {
    for (const char* source : {"{{",
                               "{{ }}",
                               "{{ 1 + }}",
                               "{% if %}{% endif %}",
                               "{% if 1 %}",
                               "{% endif %}",
                               "{% else %}",
                               "{% for %}",
                               "{% for x in y %}",
                               "{% set %}",
                               "{{ (1 }}",
                               "{{ 1) }}",
                               "{{ [1, }}",
                               "{{ 'a }}",
                               "{{ 'a\\",
                               "{# ",
                               "{{ a. }}",
                               "{{ a[] }}",
                               "{{ 99999999999999999999 }}",
                               "{{ $ }}",
                               "{% break %}",
                               "{% set a.b %}{% endset %}",
                               "\xFF",
                               "{{ 1 if }}",
                               "{% if 1 %}{% endfor %}",
                               "{{ f(a=1, 2) }}",
                               "{{ 'a' | }}",
                               "{% %}"}) {
        CAPTURE(source);
        const auto parsed = moira::chat_template::parse(source);
        REQUIRE_FALSE(parsed.has_value());
        CHECK((parsed.error().code == errc::corrupt_file || parsed.error().code == errc::unsupported));
    }
}

TEST_CASE("nesting is bounded, long chains are not mistaken for it") {
    const auto repeat = [](const std::string& text, int times) {
        std::string made;
        for (int i = 0; i < times; ++i)
            made += text;
        return made;
    };
    for (const char* opening : {"(", "[", "not ", "-", "{'a':", "a[", "a|default(", "1 if 1 else "})
        CHECK(parse_error("{{ " + repeat(opening, 5'000)) == errc::corrupt_file);
    CHECK(parse_error(repeat("{% if 1 %}", 5'000)) == errc::corrupt_file);
    CHECK(parse_error(repeat("{% set x %}", 5'000)) == errc::corrupt_file);
    CHECK(parse_error("{{ a" + repeat(".a", 5'000) + " }}") == errc::corrupt_file);
    CHECK(parse_error("{{ a" + repeat("|trim", 5'000) + " }}") == errc::corrupt_file);
    CHECK(parse_error("{{ a" + repeat(" if 1", 5'000) + " }}") == errc::corrupt_file);
    CHECK(render("{{ 0" + repeat(" + 1", 5'000) + " }}") == "5000");
    CHECK(render("{{ 'a'" + repeat(" ~ 'b'", 1'000) + " }}").size() == 1'001);
    CHECK(render("{{ " + repeat("(", 50) + "1" + repeat(")", 50) + " }}") == "1");
    CHECK(render("{% if 0 %}" + repeat("{% elif 0 %}", 3'000) + "{% else %}x{% endif %}") == "x");
}

TEST_CASE("steps, output and work are bounded") {
    moira::chat_template::limits few_steps;
    few_steps.steps_max = 20'000; // the default works as well, but for longer
    CHECK(render_error("{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}", {}, few_steps) ==
          errc::invalid_argument);
    CHECK(render_error("{{ range(1000000000000) }}") == errc::invalid_argument);
    CHECK(render_error("{{ 'a' * 9223372036854775807 }}") == errc::invalid_argument);
    CHECK(render_error("{{ [1] * 9223372036854775807 }}") == errc::invalid_argument);
    CHECK(
        render_error("{% set n = namespace(x='a') %}{% for i in range(100) %}{% set n.x = n.x + n.x %}{% endfor %}") ==
        errc::invalid_argument);
    moira::chat_template::limits small;
    small.output_bytes_max = 100;
    CHECK(render_error("{{ x }}", {{"x", std::string(101, 'a')}}, small) == errc::invalid_argument);
    CHECK(render_error("{% for i in x %}aaaaaaaaaaa{% endfor %}", {{"x", std::string(10, 'a')}}, small) ==
          errc::invalid_argument);
    small.steps_max = 10;
    CHECK(render_error("{{ 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 }}", {}, small) == errc::invalid_argument);
}

TEST_CASE("values cannot become cyclic, bottomless or exponential") {
    CHECK(render_error("{% set n = namespace() %}{% set n.x = n %}") == errc::invalid_argument);
    CHECK(render_error("{% set n = namespace() %}{% set n.x = [n] %}") == errc::invalid_argument);
    CHECK(render_error("{% set n = namespace(x=[]) %}{% for i in range(10000) %}{% set n.x = [n.x] %}{% endfor %}") ==
          errc::invalid_argument);
    const std::string bomb =
        "{% set n = namespace(x=[]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
    CHECK(render_error(bomb + "{{ n.x }}") == errc::invalid_argument);
    CHECK(render_error(bomb + "{{ n.x | tojson }}") == errc::invalid_argument);
    CHECK(render_error(bomb + "{% set a = [n.x] %}{% set b = [n.x] %}{{ a == b }}") == errc::invalid_argument);
    json deep = 1;
    for (int i = 0; i < 1'000; ++i)
        deep = json::array({deep});
    CHECK(render_error("x", {{"deep", deep}}) == errc::invalid_argument);
}

TEST_CASE("operations without a meaning are the conversation's error") {
    for (const char* source : {"{{ 1 + 'a' }}",
                               "{{ 'a' - 1 }}",
                               "{{ none * 2 }}",
                               "{{ 1 / 0 }}",
                               "{{ 1 % 0 }}",
                               "{{ 'a' < 1 }}",
                               "{{ 1 in 2 }}",
                               "{{ 9223372036854775807 + 1 }}",
                               "{{ 1 | length }}",
                               "{{ 5[1:] }}",
                               "{{ [1][::0] }}",
                               "{{ 'a'.split('') }}",
                               "{{ 'a'.items() }}",
                               "{% for x in 5 %}{% endfor %}",
                               "{% set a, b = [1] %}",
                               "{{ x.strip() }}",
                               "{{ range(1, 2, 0) }}",
                               "{{ 'a' is odd }}",
                               "{{ {1: 2} }}",
                               "{{ 'a' | tojson(indent=-1) }}",
                               "{{ (0 - 9223372036854775807 - 1) // -1 }}",
                               "{{ [namespace()] }}",
                               "{{ x | tojson }}",
                               "{% set a = 1 %}{% set a.b = 2 %}",
                               "{{ strftime_now(1) }}"}) {
        CAPTURE(source);
        CHECK(render_error(source) == errc::invalid_argument);
    }
    CHECK(moira::chat_template::parse("x")->render(json::array()).error().code == errc::invalid_argument);
}

TEST_CASE("a template is found in the configuration or in a file of its own") {
    const auto folder = std::filesystem::temp_directory_path() / "moira_chat_template_test";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    const auto write = [&](const char* name, const std::string& text) { std::ofstream(folder / name) << text; };
    CHECK(moira::chat_template::load(folder).error().code == errc::not_found);
    write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}})");
    CHECK(moira::chat_template::load(folder).error().code == errc::not_found);
    write("chat_template.jinja", "{{ bos_token }}{{ messages[0].content }}");
    CHECK(moira::chat_template::load(folder).value().render(conversation{{"user", "x"}}).value() == "<s>x");
    std::filesystem::remove(folder / "chat_template.jinja");
    write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "d"}]})");
    CHECK(moira::chat_template::load(folder).value().render(conversation{}).value() == "d");
    write("tokenizer_config.json", R"({"chat_template": 7})");
    CHECK(moira::chat_template::load(folder).error().code == errc::corrupt_file);
    write("tokenizer_config.json", R"({"chat_template": "{{ )");
    CHECK(moira::chat_template::load(folder).error().code == errc::corrupt_file);
    std::filesystem::remove_all(folder);
}
