#include "config/toml_parse.hpp"

#include "config/toml_text_check.hpp"

#include <cstddef>
#include <string>
#include <utility>

namespace moira {

namespace {

constexpr std::size_t description_bytes_max = 200; // toml++ quotes what it found

} // namespace

void throw_toml_assertion() {
    throw toml_assertion{};
}

result<toml::table> parse_toml(std::string_view text, std::string_view name) {
    if (auto checked = check_toml_text(text, name); !checked)
        return tl::unexpected(checked.error());
    try {
        toml::parse_result parsed = toml::parse(text);
        if (parsed)
            return std::move(parsed).table();
        const toml::parse_error& why = parsed.error();
        const auto& place = why.source().begin;
        return fail(errc::invalid_config, std::string(name) + ":" + std::to_string(place.line) + ":" +
                                              std::to_string(place.column) + ": " +
                                              std::string(why.description().substr(0, description_bytes_max)));
    } catch (const toml_assertion&) {
        return fail(errc::invalid_config, std::string(name) + ": found text that is not TOML");
    }
}

} // namespace moira
