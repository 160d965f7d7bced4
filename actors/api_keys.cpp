#include "actors/api_keys.hpp"

#include "core/text/text_stream.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>

namespace moira {

namespace {

std::string_view trimmed(std::string_view text) noexcept {
    constexpr std::string_view blanks = " \t\r";
    const auto begin = text.find_first_not_of(blanks);
    if (begin == std::string_view::npos)
        return {};
    return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

result<std::string> read_bounded(const std::filesystem::path& file) {
    std::error_code unknown;
    if (std::filesystem::is_directory(file, unknown))
        return fail(errc::io_error, file.string() + " is a folder; server.api_key_file must name a file");
    std::ifstream stream(file, std::ios::binary);
    if (!stream)
        return fail(errc::io_error, file.string() + ": cannot be read; check server.api_key_file and its permissions");
    std::string text(api_key_file_bytes_max + 1, '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(stream.gcount()));
    if (stream.bad())
        return fail(errc::io_error, file.string() + ": reading failed");
    if (text.size() > api_key_file_bytes_max)
        return fail(errc::invalid_config, file.string() + ": larger than " + std::to_string(api_key_file_bytes_max) +
                                              " bytes; a key file has one key a line");
    return text;
}

bool equal_in_constant_time(std::string_view secret, std::string_view guess) noexcept {
    unsigned difference = secret.size() == guess.size() ? 0 : 1;
    for (std::size_t i = 0; i < guess.size(); ++i) {
        const auto other = secret.empty() ? '\0' : secret[i % secret.size()];
        difference |= static_cast<unsigned char>(other) ^ static_cast<unsigned char>(guess[i]);
    }
    volatile unsigned answer = difference;
    return answer == 0;
}

} // namespace

result<std::vector<std::string>> load_api_keys(const std::filesystem::path& file) {
    const auto text = read_bounded(file);
    if (!text)
        return tl::unexpected<error>(text.error());
    std::vector<std::string> keys;
    std::size_t number = 0;
    for (std::string_view rest = *text; !rest.empty();) {
        const auto end = std::min(rest.find('\n'), rest.size());
        const auto key = trimmed(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
        ++number;
        if (key.empty() || key.front() == '#')
            continue;
        const auto where = file.string() + ":" + std::to_string(number) + ": ";
        if (key.size() > api_key_bytes_max || !is_utf8(key))
            return fail(errc::invalid_config,
                        where + "a key must be UTF-8 of at most " + std::to_string(api_key_bytes_max) + " bytes");
        if (keys.size() == api_keys_max)
            return fail(errc::invalid_config, where + "more than " + std::to_string(api_keys_max) + " keys");
        keys.emplace_back(key);
    }
    if (keys.empty())
        return fail(errc::invalid_config,
                    file.string() + ": holds no key; add one a line, or unset server.api_key_file to let everybody in");
    return keys;
}

bool knows_key(std::span<const std::string> keys, std::string_view guess) noexcept {
    bool known = false;
    for (const auto& each : keys)
        known |= equal_in_constant_time(each, guess);
    return known;
}

} // namespace moira
