#include "actors/library_folder.hpp"

#include <dlfcn.h>

namespace moira {

namespace {

namespace fs = std::filesystem;

/// The folder of the file that holds this function: the shared library, or the program that it was linked into.
fs::path folder_of_this_file() {
    Dl_info found{};
    if (::dladdr(reinterpret_cast<const void*>(&bundled_model_folder), &found) == 0 || found.dli_fname == nullptr)
        return {};
    std::error_code code;
    auto file = fs::canonical(found.dli_fname, code);
    return code ? fs::path() : file.parent_path();
}

fs::path first_existing(const std::vector<fs::path>& candidates) {
    std::error_code code;
    for (const auto& candidate : candidates)
        if (fs::is_directory(candidate, code))
            return candidate;
    return candidates.front();
}

} // namespace

fs::path bundled_model_folder() {
    return first_existing({(folder_of_this_file() / MOIRA_LIBRARY_TO_MODELS).lexically_normal() / "moira-demo",
                           fs::path(MOIRA_SOURCE_MODELS) / "moira-demo"});
}

std::vector<fs::path> bundled_plugin_folders() {
    const auto here = folder_of_this_file();
    return {first_existing(
        {(here / MOIRA_LIBRARY_TO_PLUGINS).lexically_normal(), (here / "../plugins").lexically_normal()})};
}

} // namespace moira
