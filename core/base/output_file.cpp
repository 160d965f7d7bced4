#include "core/base/output_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace moira {

output_file::output_file(const std::filesystem::path& path) noexcept
    : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)),
      open_failure_(descriptor_ < 0 ? errno : 0) {}

output_file::output_file(output_file&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), open_failure_(other.open_failure_) {}

output_file::~output_file() {
    if (descriptor_ >= 0)
        ::close(descriptor_);
}

int output_file::reserve(std::uint64_t bytes) const noexcept {
    if (descriptor_ < 0)
        return open_failure_;
    int failed = 0;
    do
        failed = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
    while (failed == EINTR);
    if (failed != 0 && failed != EOPNOTSUPP)
        return failed;
    return ::ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
}

int output_file::write_at(std::uint64_t offset, std::span<const std::byte> bytes) const noexcept {
    if (descriptor_ < 0)
        return open_failure_;
    while (!bytes.empty()) {
        const auto written = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? errno : EIO;
        bytes = bytes.subspan(static_cast<std::size_t>(written));
        offset += static_cast<std::uint64_t>(written);
    }
    return 0;
}

void output_file::begin_flush(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    ::sync_file_range(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), SYNC_FILE_RANGE_WRITE);
}

int output_file::flush() const noexcept {
    return ::fdatasync(descriptor_) == 0 ? 0 : errno;
}

int write_small_file(const std::filesystem::path& path, std::span<const std::byte> bytes) noexcept {
    const output_file file(path);
    int failure = file.reserve(bytes.size());
    if (failure == 0)
        failure = file.write_at(0, bytes);
    return failure == 0 ? file.flush() : failure;
}

int flush_folder(const std::filesystem::path& folder) noexcept {
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return errno;
    // Some file systems cannot, and need not.
    const int failure = ::fsync(descriptor) == 0 || errno == EINVAL ? 0 : errno;
    ::close(descriptor);
    return failure;
}

} // namespace moira
