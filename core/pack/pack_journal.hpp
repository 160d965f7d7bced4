#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// A unit whose bytes are on the disk.
struct journal_record {
    std::uint64_t unit = 0;
    std::uint64_t hash = 0; ///< content_hash of its bytes
    double error_max = 0;   ///< of rounding, relative; 0: nothing was rounded

    bool operator==(const journal_record&) const = default;
};

/// Lines of text that end with a checksum of their own: a line that was cut by a crash, and all behind it, counts as
/// not written.
std::string journal_head(std::uint64_t fingerprint);
std::string journal_line(const journal_record& record);

struct journal_content {
    std::uint64_t fingerprint = 0;
    std::vector<journal_record> records; ///< each unit at most once
    std::size_t bytes = 0;               ///< of the text that counts
};

/// Reads a journal for a pack of `units` units. An unfinished line ends it. Errors: corrupt_file (not even a head).
result<journal_content> parse_journal(std::string_view text, std::uint64_t units, std::string_view name);

/// The journal of one pack on disk, locked while it is open: a second pack into the same place is refused.
class pack_journal {
public:
    /// Opens or makes it; what was recorded by a pack of the same fingerprint is in records(). Errors: io_error,
    /// corrupt_file, invalid_argument (another fingerprint, or in use by another process).
    static result<pack_journal> open(const std::filesystem::path& path, std::uint64_t fingerprint, std::uint64_t units);

    pack_journal(pack_journal&& other) noexcept;
    pack_journal& operator=(pack_journal&&) = delete;
    ~pack_journal();

    const std::vector<journal_record>& records() const noexcept { return records_; }

    /// Appends and waits for the disk. The records' bytes must be on the disk before. Errors: io_error.
    result<void> append(std::span<const journal_record> records);

    /// Removes the file: the pack is in its place. Errors: io_error.
    result<void> remove();

private:
    pack_journal(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
    result<void> read(std::uint64_t fingerprint, std::uint64_t units);
    result<void> write(std::string_view text);

    std::filesystem::path path_;
    int descriptor_ = -1;
    std::uint64_t bytes_ = 0; ///< where the next line goes
    std::vector<journal_record> records_;
};

} // namespace moira
