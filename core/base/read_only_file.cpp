#include "core/base/read_only_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace moira {

namespace {

/// Linux transfers at most 0x7ffff000 bytes per call; a round smaller number keeps chunks aligned.
constexpr std::size_t read_bytes_max = std::size_t{1} << 30;

std::string reason(int code) {
    return std::strerror(code);
}

} // namespace

read_only_file::read_only_file(int descriptor, std::uint64_t bytes, std::filesystem::path path)
    : descriptor_(descriptor), bytes_(bytes), path_(std::move(path)) {}

read_only_file::read_only_file(read_only_file&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), bytes_(other.bytes_), path_(std::move(other.path_)) {}

read_only_file& read_only_file::operator=(read_only_file&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(bytes_, other.bytes_);
    std::swap(path_, other.path_);
    return *this;
}

read_only_file::~read_only_file() {
    if (descriptor_ >= 0)
        ::close(descriptor_);
}

result<read_only_file> read_only_file::open(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a pipe that nobody writes to must not wait.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        const int code = errno;
        if (code == ENOENT || code == ENOTDIR)
            return fail(errc::not_found, path.string() + " is not there");
        return fail(errc::io_error, path.string() + " cannot be opened: " + reason(code));
    }
    read_only_file file(descriptor, 0, path);
    struct stat status {};
    if (::fstat(descriptor, &status) != 0)
        return fail(errc::io_error, path.string() + " cannot be examined: " + reason(errno));
    if (!S_ISREG(status.st_mode))
        return fail(errc::io_error, path.string() + " is not a regular file");
    file.bytes_ = static_cast<std::uint64_t>(status.st_size);
    return file;
}

result<void> read_only_file::read_at(std::uint64_t offset, std::span<std::byte> into) const {
    if (offset > bytes_ || into.size() > bytes_ - offset)
        return fail(errc::io_error, path_.string() + " ends before byte " + std::to_string(offset) + " + " +
                                        std::to_string(into.size()));
    while (!into.empty()) {
        const auto wanted = std::min(into.size(), read_bytes_max);
        const auto got = ::pread(descriptor_, into.data(), wanted, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(errc::io_error, path_.string() + " cannot be read: " + reason(errno));
        if (got == 0)
            return fail(errc::io_error, path_.string() + " has become shorter since it was opened");
        into = into.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
    return {};
}

result<std::string> read_text_file(const std::filesystem::path& path, std::uint64_t bytes_max) {
    auto file = read_only_file::open(path);
    if (!file)
        return tl::unexpected(file.error());
    if (file->bytes() > bytes_max)
        return fail(errc::corrupt_file, path.string() + " has " + std::to_string(file->bytes()) + " bytes; at most " +
                                            std::to_string(bytes_max) + " make sense here");
    std::string text(static_cast<std::size_t>(file->bytes()), '\0');
    if (auto read = file->read_at(0, std::as_writable_bytes(std::span(text))); !read)
        return tl::unexpected(read.error());
    return text;
}

} // namespace moira
