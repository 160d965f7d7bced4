#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moira {

/// Folder of the running program, links resolved; empty where the system does not tell.
std::filesystem::path executable_folder();

/// `plugins.path` when it is set; else the folders that exist of <executable>/../plugins (a build or a bundle) and
/// <executable>/../lib/moira/plugins (an installation); the first of them when neither exists, for the message.
std::vector<std::filesystem::path> plugin_folders(const std::string& plugins_path);

/// "~/models" with the home folder in it; other paths as they are.
std::filesystem::path expand_home(const std::string& path);

} // namespace moira
