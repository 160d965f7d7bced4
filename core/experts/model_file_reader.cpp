#include "core/experts/model_file_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace moira {
namespace {

/// Read from the page cache at a time where the bytes are hashed too: they are still in the second cache then.
constexpr std::uint64_t cached_piece_bytes = 256 << 10;

/// One pread may transfer at most 2 GiB less a page; smaller pieces lose nothing.
constexpr std::uint64_t piece_bytes_max = 1ULL << 30;

struct read_outcome {
    std::uint64_t bytes = 0;
    int failure = 0; // errno
};

/// Reads until `wanted` bytes are there, the file ends, or the system refuses. With direct reads it stops at a piece
/// that is not a whole number of blocks: the next one could not begin there.
read_outcome read_fully(int descriptor, std::byte* into, std::uint64_t wanted, std::uint64_t offset, bool direct) {
    read_outcome outcome;
    while (outcome.bytes < wanted) {
        const std::uint64_t piece = std::min(wanted - outcome.bytes, piece_bytes_max);
        const ssize_t got =
            ::pread(descriptor, into + outcome.bytes, piece, static_cast<off_t>(offset + outcome.bytes));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            outcome.failure = errno;
        if (got <= 0)
            break;
        outcome.bytes += static_cast<std::uint64_t>(got);
        if (direct && outcome.bytes % read_alignment != 0)
            break;
    }
    return outcome;
}

/// A read that stopped at `next` although it should have come to `end`. `failure`: errno; 0: the file ends there.
tl::unexpected<error> fail_read(const std::string& name, std::uint64_t next, std::uint64_t end, int failure) {
    if (failure != 0)
        return fail(errc::io_error, name + ": reading at " + std::to_string(next) + ": " + std::strerror(failure));
    return fail(errc::io_error, name + " ends at " + std::to_string(next) + ", before byte " + std::to_string(end) +
                                    ": it was cut or replaced while the model was running");
}

bool same_file(int a, int b) {
    struct stat first {
    }, second{};
    return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

} // namespace

model_file_reader::file::~file() {
    if (direct >= 0)
        ::close(direct);
}

void model_file_reader::add(int descriptor, const std::filesystem::path& path, bool direct) {
    files_.push_back(std::make_unique<file>(descriptor, path.string()));
    if (direct)
        open_direct(*files_.back(), path);
}

void model_file_reader::open_direct(file& opened, const std::filesystem::path& path) {
    constexpr int flags = O_RDONLY | O_DIRECT | O_CLOEXEC;
    // By descriptor first: the path may have been renamed over since.
    int descriptor = ::open(("/proc/self/fd/" + std::to_string(opened.buffered)).c_str(), flags);
    if (descriptor < 0)
        descriptor = ::open(path.c_str(), flags);
    if (descriptor < 0) {
        opened.refused = errno;
        return;
    }
    opened.direct = descriptor;
    if (!same_file(descriptor, opened.buffered)) {
        opened.refused = ESTALE;
        return;
    }
    // Some file systems accept the flag and refuse the first read.
    const std::unique_ptr<void, decltype(&std::free)> page(std::aligned_alloc(read_alignment, read_alignment),
                                                           &std::free);
    if (!page || ::pread(descriptor, page.get(), read_alignment, 0) < 0)
        opened.refused = page ? errno : ENOMEM;
}

result<void> model_file_reader::read(const expert_read& read, std::span<std::byte> scratch) const {
    if (read.file >= files_.size())
        return fail(errc::internal, "no file " + std::to_string(read.file) + " in this checkpoint");
    file& from = *files_[read.file];
    const std::uint64_t begin = read.window_begin();
    std::byte* window = scratch.data() + read.scratch_offset;
    std::uint64_t next = read.offset;
    const std::uint64_t end = read.offset + read.bytes;
    if (from.direct >= 0 && from.refused == 0) {
        const read_outcome got = read_fully(from.direct, window, read.window_end() - begin, begin, true);
        if (got.failure == EINVAL)
            from.refused = EINVAL; // stricter alignment than ours: the page cache serves from now on
        else if (got.failure != 0)
            return fail(errc::io_error, from.name + ": reading at " + std::to_string(begin + got.bytes) + ": " +
                                            std::strerror(got.failure));
        next = std::clamp(begin + got.bytes, next, end);
    }
    const read_outcome got = read_fully(from.buffered, window + (next - begin), end - next, next, false);
    next += got.bytes;
    if (got.failure != 0 || next < end)
        return fail_read(from.name, next, end, got.failure);
    return {};
}

/// False: nothing is on its way, and read() tells what is wrong.
bool model_file_reader::read_pieces(const file& from, const expert_read& read, std::byte* window,
                                    content_hasher& hasher) const {
    const std::uint64_t begin = read.window_begin(), skipped = read.offset - begin;
    std::uint64_t hashed = skipped;
    const auto hash_until = [&](std::uint64_t done) {
        if (done > hashed)
            hasher.add(std::span(window + hashed, done - hashed));
        hashed = std::max(hashed, done);
    };
    return pieces_.read(from.direct, {window, read.window_end() - begin}, skipped + read.bytes, begin, hash_until);
}

result<void> model_file_reader::read_cached(const file& from, const expert_read& read, std::byte* window,
                                            content_hasher& hasher) const {
    expert_read piece = read;
    for (std::uint64_t done = 0; done < read.bytes; done += piece.bytes) {
        piece.offset = read.offset + done;
        piece.bytes = std::min(cached_piece_bytes, read.bytes - done);
        std::byte* into = window + (piece.offset - read.window_begin());
        const read_outcome got = read_fully(from.buffered, into, piece.bytes, piece.offset, false);
        if (got.failure != 0 || got.bytes < piece.bytes)
            return fail_read(from.name, piece.offset + got.bytes, read.offset + read.bytes, got.failure);
        hasher.add(std::span(into, piece.bytes));
    }
    return {};
}

result<std::uint64_t> model_file_reader::read_hashed(const expert_read& read, std::span<std::byte> scratch) const {
    if (read.file >= files_.size())
        return fail(errc::internal, "no file " + std::to_string(read.file) + " in this checkpoint");
    const file& from = *files_[read.file];
    std::byte* window = scratch.data() + read.scratch_offset;
    const bool direct = from.direct >= 0 && from.refused == 0;
    content_hasher hasher;
    if (!direct) {
        auto done = read_cached(from, read, window, hasher);
        return done.map([&] { return hasher.value(); });
    }
    if (pieced_reader::worth(read.bytes) && read_pieces(from, read, window, hasher))
        return hasher.value();
    return this->read(read, scratch).map([&] {
        return content_hash({window + (read.offset - read.window_begin()), read.bytes});
    });
}

void model_file_reader::forget(const expert_read& read) const noexcept {
    if (read.file < files_.size())
        ::posix_fadvise(files_[read.file]->buffered, static_cast<off_t>(read.window_begin()),
                        static_cast<off_t>(read.window_end() - read.window_begin()), POSIX_FADV_DONTNEED);
}

std::string model_file_reader::refusal() const {
    for (const auto& opened : files_)
        if (const int reason = opened->refused; reason != 0)
            return opened->name + " cannot be read past the page cache (" + std::strerror(reason) + ")";
    return {};
}

} // namespace moira
