#include "tools/moira/disk_probe.hpp"

#include "core/base/checked.hpp"
#include "core/experts/expert_read_plan.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>

namespace moira {

namespace {

/// Reads until the time is over or a read fails.
struct reader {
    std::vector<std::pair<int, std::uint64_t>> places; ///< descriptor and offset of each read
    std::uint64_t bytes_read = 0;
    int failure = 0;

    void run(std::span<std::byte> into, std::chrono::steady_clock::time_point end) {
        for (const auto& [descriptor, offset] : places) {
            if (std::chrono::steady_clock::now() >= end)
                return;
            const auto got = ::pread(descriptor, into.data(), into.size(), static_cast<off_t>(offset));
            if (got != static_cast<ssize_t>(into.size())) {
                failure = got < 0 ? errno : EIO;
                return;
            }
            bytes_read += into.size();
        }
    }
};

} // namespace

result<disk_probe> disk_probe::create(const checkpoint& model, std::uint64_t bytes_each) {
    disk_probe made;
    made.bytes_each_ = round_up(bytes_each, read_alignment);
    for (std::uint32_t index = 0; index < model.files().size(); ++index) {
        const auto bytes = model.file_bytes(index);
        if (bytes < made.bytes_each_)
            continue;
        const int descriptor = ::open(model.files()[index].c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (descriptor < 0)
            return fail(errc::io_error,
                        model.files()[index].string() + " cannot be read past the page cache: " + std::strerror(errno));
        made.files_.push_back({descriptor, bytes});
    }
    if (made.files_.empty())
        return fail(errc::invalid_argument,
                    "no file of the model holds a read of " + std::to_string(bytes_each) + " bytes");
    for (std::uint32_t reader = 0; reader < reads_in_flight; ++reader) {
        auto buffer = huge_page_buffer::create(made.bytes_each_);
        if (!buffer)
            return tl::unexpected(buffer.error());
        // Touched now: whoever asks later how much memory is left gets a true answer.
        std::memset(buffer->bytes().data(), 1, buffer->bytes().size());
        made.buffers_.push_back(std::move(*buffer));
    }
    return made;
}

disk_probe::disk_probe(disk_probe&& other) noexcept {
    *this = std::move(other);
}

disk_probe& disk_probe::operator=(disk_probe&& other) noexcept {
    std::swap(files_, other.files_);
    std::swap(buffers_, other.buffers_);
    std::swap(bytes_each_, other.bytes_each_);
    std::swap(direct_, other.direct_);
    std::swap(places_, other.places_);
    return *this;
}

disk_probe::~disk_probe() {
    for (const file& opened : files_)
        ::close(opened.descriptor);
}

result<double> disk_probe::measure(std::chrono::milliseconds duration) {
    constexpr std::size_t reads_max = 4096; // far more than fit the time
    std::vector<reader> readers(reads_in_flight);
    for (reader& each : readers) {
        for (std::size_t read = 0; read < reads_max; ++read) {
            const file& from = files_[places_() % files_.size()];
            const auto blocks = (from.bytes - bytes_each_) / read_alignment + 1;
            each.places.emplace_back(from.descriptor, places_() % blocks * read_alignment);
        }
    }
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (std::size_t index = 0; index < readers.size(); ++index)
        threads.emplace_back([&, index] { readers[index].run(buffers_[index].bytes(), begin + duration); });
    for (std::thread& thread : threads)
        thread.join();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    std::uint64_t bytes = 0;
    for (const reader& each : readers) {
        if (each.failure != 0)
            return fail(errc::io_error, std::string("probing the disk: ") + std::strerror(each.failure));
        bytes += each.bytes_read;
    }
    return static_cast<double>(bytes) / elapsed.count() / 1e9;
}

} // namespace moira
