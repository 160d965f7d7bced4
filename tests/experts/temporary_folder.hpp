#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace moira {

/// A fresh folder that is removed with all its content at the end of the scope.
class temporary_folder {
public:
    explicit temporary_folder(const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
        std::string pattern = (parent / "moira_experts_XXXXXX").string();
        if (::mkdtemp(pattern.data()))
            path_ = pattern;
    }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;
    ~temporary_folder() {
        std::error_code ignored;
        if (!path_.empty())
            std::filesystem::remove_all(path_, ignored);
    }

    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

} // namespace moira
