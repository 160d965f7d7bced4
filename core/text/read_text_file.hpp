#pragma once

#include "core/base/error.hpp"

#include <filesystem>
#include <string>

namespace moira {

/// A whole regular file. Errors: not_found, io_error, corrupt_file when it is larger than `bytes_max`.
result<std::string> read_text_file(const std::filesystem::path& path, std::size_t bytes_max);

} // namespace moira
