#include "config/settings_load.hpp"
#include "config/settings_table.hpp"

#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <set>

using namespace moira;

namespace {

using assignments = std::vector<std::string>;

/// The code and the place with which a text is refused.
void check_refused(const std::string& toml, errc code, const std::string& place) {
    CAPTURE(toml);
    const auto loaded = parse_settings(toml, "s.toml");
    REQUIRE(!loaded.has_value());
    CHECK(loaded.error().code == code);
    CHECK_MESSAGE(loaded.error().message.starts_with("s.toml:" + place + ":"), loaded.error().message);
}

void check_set_refused(const std::string& assignment, errc code) {
    CAPTURE(assignment);
    const auto loaded = load_settings({}, assignments{assignment});
    REQUIRE(!loaded.has_value());
    CHECK(loaded.error().code == code);
}

} // namespace

TEST_CASE("every key stands once in the table and its default passes its own checks") {
    std::set<std::string_view> seen;
    const settings defaults;
    for (const setting_row& row : settings_table()) {
        CAPTURE(row.key);
        CHECK(seen.insert(row.key).second);
        CHECK(!row.reason.empty());
        const auto value = read_setting(row, defaults);
        if (std::holds_alternative<std::vector<std::string>>(value))
            continue;
        // "--set key=default" must be accepted and change nothing.
        const auto again = load_settings({}, assignments{std::string(row.key) + "=" + setting_text(row, defaults)});
        REQUIRE_MESSAGE(again.has_value(), (again ? "" : again.error().message));
        CHECK(read_setting(row, again->values) == value);
        CHECK(again->origin(row.key) == "--set");
    }
}

TEST_CASE("values come from defaults, then the file, then --set, and remember it") {
    const auto loaded = parse_settings("# a comment\n[experts]\nram_budget = \"2GiB\"\nloader_threads = 4\n", "s.toml",
                                       assignments{"experts.loader_threads=3", "sampling.temperature=0.7"});
    REQUIRE(loaded.has_value());
    CHECK(loaded->values.experts.ram_budget == memory_budget::of_bytes(std::uint64_t{2} << 30));
    CHECK(loaded->origin("experts.ram_budget") == "s.toml:3");
    CHECK(loaded->values.experts.loader_threads == 3);
    CHECK(loaded->origin("experts.loader_threads") == "--set");
    CHECK(loaded->values.sampling.temperature == doctest::Approx(0.7));
    CHECK(loaded->values.batch.max_sequences == 16);
    CHECK(loaded->origin("batch.max_sequences") == "default");
}

TEST_CASE("all types are read") {
    const auto loaded = parse_settings("model.path = [\"a\", \"b\"]\n"
                                       "plugins.path = 'p'\n"
                                       "sampling = { top_p = 1, seed = 9007199254740992 }\n"
                                       "context.kv_budget = 1048576\n"
                                       "context.prefix_reuse = false\n",
                                       "s.toml");
    REQUIRE_MESSAGE(loaded.has_value(), (loaded ? "" : loaded.error().message));
    CHECK(loaded->values.model.path == std::vector<std::string>{"a", "b"});
    CHECK(loaded->values.plugins.path == "p");
    CHECK(loaded->values.sampling.top_p == 1.0);
    CHECK(loaded->values.sampling.seed == 9'007'199'254'740'992);
    CHECK(loaded->values.context.kv_budget.bytes == 1'048'576);
    CHECK(!loaded->values.context.prefix_reuse);
    CHECK(parse_settings("model.path = \"one\"\n", "s.toml")->values.model.path == std::vector<std::string>{"one"});
}

TEST_CASE("a wrong file is refused with line and column") {
    check_refused("[experts]\nram_bugdet = 1\n", errc::invalid_config, "2:1");
    check_refused("[exprets]\nram_budget = 1\n", errc::invalid_config, "1:2");
    check_refused("top = 1\n", errc::invalid_config, "1:1");
    check_refused("experts = 1\n", errc::invalid_config, "1:11");
    check_refused("[experts]\n  io = \"fast\"\n", errc::invalid_config, "2:8");
    check_refused("[experts]\nio = 1\n", errc::invalid_config, "2:6");
    check_refused("[experts]\nloader_threads = 0\n", errc::invalid_config, "2:18");
    check_refused("[experts]\nloader_threads = 2.0\n", errc::invalid_config, "2:18");
    check_refused("[experts]\nloader_threads = \"2\"\n", errc::invalid_config, "2:18");
    check_refused("[experts]\nram_budget = -1\n", errc::invalid_config, "2:14");
    check_refused("[experts]\nram_budget = \"lots\"\n", errc::invalid_config, "2:14");
    check_refused("[experts.ram_budget]\nx = 1\n", errc::invalid_config, "1:1");
    check_refused("[sampling]\ntemperature = nan\n", errc::invalid_config, "2:15");
    check_refused("[sampling]\ntemperature = inf\n", errc::invalid_config, "2:15");
    check_refused("[sampling]\nseed = -1\n", errc::invalid_config, "2:8");
    check_refused("[sampling]\nseed = 9223372036854775807\n", errc::invalid_config, "2:8");
    check_refused("[compute]\nthreads = 1979-05-27\n", errc::invalid_config, "2:11");
    check_refused("[context]\nprefix_reuse = 1\n", errc::invalid_config, "2:16");
    check_refused("[model]\npath = [1]\n", errc::invalid_config, "2:8");
    check_refused("[model]\npath = \"a\\u0000b\"\n[log]\nlevel = \"x\"\n", errc::invalid_config, "4:9");
    check_refused("[log]\nlevel = \"info\"\nlevel = \"info\"\n", errc::invalid_config, "3:9");
    check_refused(std::string("[log]\n[\0l", 9), errc::invalid_config, "2");
    check_refused("[log]\n# \x7f\n", errc::invalid_config, "2");
    check_refused("[log\n", errc::invalid_config, "1:5");
    check_refused("[log]\nlevel = \"\xff\"\n", errc::invalid_config, "2:9");
}

TEST_CASE("a wrong --set is refused") {
    check_set_refused("", errc::invalid_config);
    check_set_refused("experts.io", errc::invalid_config);
    check_set_refused("=1", errc::invalid_config);
    check_set_refused("experts.oi=auto", errc::invalid_config);
    check_set_refused("experts.io=fast", errc::invalid_config);
    check_set_refused("experts.io=", errc::invalid_config);
    check_set_refused("compute.threads=two", errc::invalid_config);
    check_set_refused("compute.threads=2 ", errc::invalid_config);
    check_set_refused("compute.threads=99999999999999999999", errc::invalid_config);
    check_set_refused("sampling.top_p=nan", errc::invalid_config);
    check_set_refused("sampling.top_p=1.5", errc::invalid_config);
    check_set_refused("context.prefix_reuse=yes", errc::invalid_config);
    check_set_refused("experts.ram_budget=101%", errc::invalid_config);
    check_set_refused("model.path=[1]", errc::invalid_config);
    check_set_refused("model.path=[\"a\"]\nx=1", errc::invalid_config);
}

TEST_CASE("a list of folders can be given on the command line") {
    CHECK(load_settings({}, assignments{"model.path=/m"})->values.model.path == std::vector<std::string>{"/m"});
    CHECK(load_settings({}, assignments{"model.path=[\"a\", \"b\"]"})->values.model.path ==
          std::vector<std::string>{"a", "b"});
}

TEST_CASE("what this version cannot honour is unsupported, not ignored") {
    for (const char* assignment :
         {"speculation.mode=draft"})
        check_set_refused(assignment, errc::unsupported);
    // A value that nobody ever planned is wrong, not unsupported.
    check_set_refused("prune.mode=random", errc::invalid_config);
}

TEST_CASE("files that try to exhaust the reader are refused") {
    std::string chain = "[a";
    for (int i = 0; i < 100'000; ++i)
        chain += ".a";
    CHECK(parse_settings(chain + "]\n", "s.toml").error().code == errc::invalid_config);
    std::string nested = "model.path = ";
    CHECK(parse_settings(nested + std::string(100'000, '['), "s.toml").error().code == errc::invalid_config);
    // Text on which the parser asserts.
    CHECK(parse_settings("a = [\"\", 1979-05-27T&07@32:00Z1 if,T07:32 0]]\n", "s.toml").error().code ==
          errc::invalid_config);
    const std::string large(settings_file_bytes_max + 1, '#');
    CHECK(parse_settings(large, "s.toml").error().code == errc::invalid_config);
}

TEST_CASE("a missing settings file and a folder are told apart from a wrong one") {
    CHECK(load_settings("/nonexistent/moira.toml", {}).error().code == errc::not_found);
    CHECK(load_settings("/", {}).error().code == errc::invalid_config);
}

TEST_CASE("a misspelt key is answered with the nearest one") {
    CHECK(nearest_setting("experts.ram_bugdet") == "experts.ram_budget");
    CHECK(nearest_setting("exprets") == "experts");
    CHECK(nearest_setting("completely.different.words.here").empty());
    CHECK(nearest_setting(std::string(10'000, 'x')).empty());
}

TEST_CASE("every example file loads") {
    int examples = 0;
    for (const auto& entry : std::filesystem::directory_iterator(MOIRA_SOURCE_DIRECTORY "/config/examples")) {
        CAPTURE(entry.path().string());
        const auto loaded = load_settings(entry.path(), {});
        REQUIRE_MESSAGE(loaded.has_value(), (loaded ? "" : loaded.error().message));
        CHECK(!loaded->origins.empty());
        ++examples;
    }
    CHECK(examples >= 3);
}
