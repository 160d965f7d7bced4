#include "tools/moira/input_text.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

namespace moira {

namespace {

result<std::string> read_stream(std::FILE* stream, const std::string& name) {
    std::string text;
    std::array<char, 65'536> block{};
    while (const std::size_t count = std::fread(block.data(), 1, block.size(), stream)) {
        text.append(block.data(), count);
        if (text.size() > input_bytes_max)
            return fail(errc::prompt_too_long,
                        name + ": more than " + std::to_string(input_bytes_max) + " bytes; give less text");
        // A terminal would be read again, and its user would have to press Ctrl-D twice.
        if (std::feof(stream) != 0)
            break;
    }
    if (std::ferror(stream) != 0)
        return fail(errc::io_error, name + ": " + std::strerror(errno));
    return text;
}

} // namespace

result<std::string> read_input_text(const std::string& file) {
    if (file == "-")
        return read_stream(stdin, "standard input");
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(std::fopen(file.c_str(), "rb"), &std::fclose);
    if (!stream)
        return fail(errno == ENOENT ? errc::not_found : errc::io_error, file + ": " + std::strerror(errno));
    return read_stream(stream.get(), file);
}

result<std::vector<token_id>> parse_token_ids(std::string_view text) {
    constexpr std::string_view separators = " ,\t\r\n";
    std::vector<token_id> ids;
    while (true) {
        const auto begin = text.find_first_not_of(separators);
        if (begin == std::string_view::npos)
            return ids;
        text.remove_prefix(begin);
        const std::string_view word = text.substr(0, text.find_first_of(separators));
        token_id id = 0;
        const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), id);
        if (code != std::errc{} || end != word.data() + word.size() || id < 0)
            return fail(errc::invalid_argument, "token ids: found \"" + std::string(word.substr(0, 32)) +
                                                    "\", expected whole numbers from 0, such as \"1 2 3\"");
        ids.push_back(id);
        text.remove_prefix(word.size());
    }
}

} // namespace moira
