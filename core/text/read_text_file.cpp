#include "core/text/read_text_file.hpp"

#include <fstream>

namespace moira {

result<std::string> read_text_file(const std::filesystem::path& path, std::size_t bytes_max) {
    std::error_code problem;
    const auto status = std::filesystem::status(path, problem);
    if (!std::filesystem::exists(status))
        return fail(errc::not_found, path.string() + " does not exist");
    if (!std::filesystem::is_regular_file(status))
        return fail(errc::io_error, path.string() + " is not a regular file");
    const auto bytes = std::filesystem::file_size(path, problem);
    if (problem)
        return fail(errc::io_error, path.string() + ": " + problem.message());
    if (bytes > bytes_max)
        return fail(errc::corrupt_file,
                    path.string() + ": " + std::to_string(bytes) + " bytes; at most " + std::to_string(bytes_max));
    std::ifstream file(path, std::ios::binary);
    std::string text(bytes, '\0');
    if (!file.read(text.data(), static_cast<std::streamsize>(bytes)))
        return fail(errc::io_error, path.string() + ": cannot be read");
    return text;
}

} // namespace moira
