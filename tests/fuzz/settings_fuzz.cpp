// Settings from a TOML file, and from --set: the first line, when it starts with '=', is an assignment without that
// sign.
#include "config/settings_load.hpp"
#include "config/settings_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

// Whatever was accepted must be a value that the loader accepts again: what is printed can be copied into a file.
void check_accepted(const moira::loaded_settings& loaded) {
    for (const auto& [key, origin] : loaded.origins) {
        const moira::setting_row* row = moira::find_setting(key);
        if (row == nullptr || origin.empty())
            std::abort();
        const auto value = moira::read_setting(*row, loaded.values);
        if (std::holds_alternative<double>(value) && !(std::get<double>(value) >= row->minimum))
            std::abort();
        if (const auto* text = std::get_if<std::string>(&value))
            if (!moira::load_settings({}, std::vector<std::string>{key + "=" + *text}) && !key.starts_with("server."))
                std::abort();
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(bytes), size);
    std::vector<std::string> assignments;
    if (text.starts_with('=')) {
        const auto line = text.substr(1, text.find('\n') == std::string_view::npos ? text.size() : text.find('\n') - 1);
        assignments.emplace_back(line);
        text.remove_prefix(std::min(text.size(), line.size() + 2));
    }
    if (const auto loaded = moira::parse_settings(text, "fuzz.toml", assignments))
        check_accepted(*loaded);
    return 0;
}
