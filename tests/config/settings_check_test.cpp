#include "config/settings_check.hpp"

#include <doctest/doctest.h>

using namespace moira;

TEST_CASE("an endpoint is a host and a port") {
    CHECK(parse_endpoint("127.0.0.1:7420")->port == 7420);
    CHECK(parse_endpoint("localhost:0")->host == "localhost");
    CHECK(parse_endpoint("[::1]:80")->host == "::1");
    for (const char* text :
         {"", "127.0.0.1", ":80", "host:", "host:65536", "host:-1", "host:8o", "::1:80", "a b:1", "[]:80", "[::1]80"})
        CHECK_MESSAGE(!parse_endpoint(text).has_value(), text);
}

TEST_CASE("only loopback addresses count as loopback") {
    for (const char* host : {"127.0.0.1", "127.8.9.10", "::1", "localhost"})
        CHECK_MESSAGE(is_loopback(host), host);
    for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "127.evil.example", "localhost.example", ""})
        CHECK_MESSAGE(!is_loopback(host), host);
}

TEST_CASE("rules between keys are checked after all values are in") {
    const auto open_to_all = parse_settings("[server]\nfault_injection = true\ntcp = \"0.0.0.0:1\"\n", "s.toml");
    REQUIRE(!open_to_all.has_value());
    CHECK(open_to_all.error().code == errc::invalid_config);
    CHECK(parse_settings("[server]\nfault_injection = true\n", "s.toml").has_value());

    const auto no_row = parse_settings("[batch]\nmax_step_tokens = 4\n", "s.toml");
    REQUIRE(!no_row.has_value());
    CHECK(no_row.error().code == errc::invalid_config);
    CHECK(parse_settings("[batch]\nmax_step_tokens = 4\nmax_sequences = 4\n", "s.toml").has_value());

    const auto no_spare_loader = parse_settings("[experts]\nprefetch = \"auto\"\nloader_threads = 1\n", "s.toml");
    REQUIRE(!no_spare_loader.has_value());
    CHECK(no_spare_loader.error().code == errc::invalid_config);
    CHECK(parse_settings("[experts]\nprefetch = \"always\"\n", "s.toml").has_value());
    CHECK(parse_settings("[experts]\nloader_threads = 1\n", "s.toml").has_value());

    for (const char* const mode : {"auto", "ngram", "mtp"}) {
        const std::string speculation = std::string("[speculation]\nmode = \"") + mode + "\"\n";
        const auto unverifiable = parse_settings(speculation + "[prune]\nmode = \"cache_aware\"\n", "s.toml");
        REQUIRE(!unverifiable.has_value());
        CHECK(unverifiable.error().code == errc::invalid_config);
        CHECK(parse_settings(speculation + "[prune]\nmode = \"gate_mass\"\n", "s.toml").has_value());
    }
    CHECK(parse_settings("[prune]\nmode = \"cache_aware\"\n", "s.toml").has_value());

    const auto no_port = parse_settings("[server]\ntcp = \"127.0.0.1\"\n", "s.toml");
    REQUIRE(!no_port.has_value());
    CHECK(no_port.error().code == errc::invalid_config);
}
