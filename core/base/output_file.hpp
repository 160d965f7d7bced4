#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace moira {

/// A file that is filled in any order, by several threads, and may exist from an earlier attempt. Every function gives
/// 0 or what the system said.
class output_file {
public:
    explicit output_file(const std::filesystem::path& path) noexcept;
    output_file(output_file&& other) noexcept;
    output_file& operator=(output_file&&) = delete;
    ~output_file();

    /// Claims room for the whole file where the file system can, so that a full disk shows at once, and gives it its
    /// size.
    int reserve(std::uint64_t bytes) const noexcept;

    int write_at(std::uint64_t offset, std::span<const std::byte> bytes) const noexcept;

    /// Asks the disk to begin with these bytes while the next ones are made. What fails shows at flush.
    void begin_flush(std::uint64_t offset, std::uint64_t bytes) const noexcept;

    /// Waits until everything is on the disk.
    int flush() const noexcept;

private:
    int descriptor_;
    int open_failure_;
};

/// Writes a whole small file and waits for the disk.
int write_small_file(const std::filesystem::path& path, std::span<const std::byte> bytes) noexcept;

/// Waits until the names in a folder are on the disk.
int flush_folder(const std::filesystem::path& folder) noexcept;

} // namespace moira
