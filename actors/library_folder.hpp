#pragma once

#include <filesystem>
#include <vector>

namespace moira {

// What was installed with this library, found from where the library lies, so that an installation can be moved. Before
// it is installed: what lies in the build.

/// The bundled model; a path that need not exist.
std::filesystem::path bundled_model_folder();

/// Folders that exist; when none does, where one was expected.
std::vector<std::filesystem::path> bundled_plugin_folders();

} // namespace moira
