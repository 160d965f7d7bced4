#include "tools/moira/executable_path.hpp"

#include <cstdlib>
#include <system_error>

namespace moira {

std::filesystem::path executable_folder() {
    std::error_code code;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", code);
    return code ? std::filesystem::path() : program.parent_path();
}

std::vector<std::filesystem::path> plugin_folders(const std::string& plugins_path) {
    if (!plugins_path.empty())
        return {expand_home(plugins_path)};
    const auto folder = executable_folder();
    const std::vector<std::filesystem::path> candidates{(folder / "../plugins").lexically_normal(),
                                                        (folder / "../lib/moira/plugins").lexically_normal()};
    std::vector<std::filesystem::path> existing;
    std::error_code code;
    for (const auto& candidate : candidates)
        if (std::filesystem::is_directory(candidate, code))
            existing.push_back(candidate);
    if (existing.empty())
        existing.push_back(candidates.front());
    return existing;
}

std::filesystem::path expand_home(const std::string& path) {
    const char* home = std::getenv("HOME");
    if (path.starts_with("~/") && home != nullptr)
        return std::filesystem::path(home) / path.substr(2);
    return path;
}

} // namespace moira
