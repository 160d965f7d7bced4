#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace moira {

/// An open regular file and its size at opening. Reads are thread-safe (pread).
class read_only_file {
public:
    /// Errors: not_found, io_error (not a regular file included).
    static result<read_only_file> open(const std::filesystem::path& path);

    read_only_file(read_only_file&& other) noexcept;
    read_only_file& operator=(read_only_file&& other) noexcept;
    ~read_only_file();

    int descriptor() const noexcept { return descriptor_; }
    std::uint64_t bytes() const noexcept { return bytes_; }
    const std::filesystem::path& path() const noexcept { return path_; }

    /// Fills `into` from `offset`. Errors: io_error (a read that failed, or a file that has become shorter).
    result<void> read_at(std::uint64_t offset, std::span<std::byte> into) const;

private:
    read_only_file(int descriptor, std::uint64_t bytes, std::filesystem::path path);
    int descriptor_ = -1;
    std::uint64_t bytes_ = 0;
    std::filesystem::path path_;
};

/// A whole small text file. Errors: not_found, io_error, corrupt_file (more than `bytes_max`).
result<std::string> read_text_file(const std::filesystem::path& path, std::uint64_t bytes_max);

} // namespace moira
