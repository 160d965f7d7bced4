#include "actors/api_keys.hpp"

#include <doctest/doctest.h>
#include <fstream>
#include <stdlib.h>

using namespace moira;

namespace {

/// A folder of its own, removed at the end.
class key_file {
public:
    explicit key_file(const std::string& content) {
        char name[] = "/tmp/moira_keys_XXXXXX";
        folder_ = ::mkdtemp(name);
        std::ofstream(path(), std::ios::binary) << content;
    }
    ~key_file() { std::filesystem::remove_all(folder_); }
    std::filesystem::path path() const { return folder_ / "keys"; }
    const std::filesystem::path& folder() const { return folder_; }

private:
    std::filesystem::path folder_;
};

} // namespace

TEST_CASE("a key file has one key a line, comments and blanks aside") {
    const key_file file("# team\nalpha\r\n\n  beta gamma \t\n   # not a key\nlast");
    const auto keys = load_api_keys(file.path());
    REQUIRE(keys);
    CHECK(*keys == std::vector<std::string>{"alpha", "beta gamma", "last"});
}

TEST_CASE("a key file without a key would open the server, so it is refused") {
    for (const auto* content : {"", "\n\n", "# only a comment\n"}) {
        const key_file file(content);
        REQUIRE(!load_api_keys(file.path()));
        CHECK(load_api_keys(file.path()).error().code == errc::invalid_config);
    }
}

TEST_CASE("key files beyond their limits are refused") {
    CHECK(load_api_keys(key_file(std::string(api_key_bytes_max, 'k')).path()));
    CHECK(load_api_keys(key_file(std::string(api_key_bytes_max + 1, 'k')).path()).error().code == errc::invalid_config);
    CHECK(load_api_keys(key_file("\xff\xfe").path()).error().code == errc::invalid_config);
    CHECK(load_api_keys(key_file(std::string(api_key_file_bytes_max + 1, '#')).path()).error().code ==
          errc::invalid_config);
    std::string many;
    for (std::size_t i = 0; i <= api_keys_max; ++i)
        many += "key" + std::to_string(i) + "\n";
    CHECK(load_api_keys(key_file(many).path()).error().code == errc::invalid_config);
}

TEST_CASE("a key file that cannot be read is an error") {
    const key_file file("x");
    CHECK(load_api_keys(file.folder() / "absent").error().code == errc::io_error);
    CHECK(load_api_keys(file.folder()).error().code == errc::io_error);
}
