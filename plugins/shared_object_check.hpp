#pragma once

#include <filesystem>
#include <string>

namespace moira {

/// Looks at a file before the loader maps it: the loader trusts program headers, and a truncated file would end the
/// process with SIGBUS. Gives an empty string for a 64-bit ELF shared object whose segments lie inside the file, or
/// what is wrong with it.
std::string check_shared_object(const std::filesystem::path& file);

} // namespace moira
