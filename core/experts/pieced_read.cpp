#include "core/experts/pieced_read.hpp"

#include "core/base/checked.hpp"
#include "core/experts/expert_read_plan.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/syscall.h>
#include <unistd.h>

namespace moira {
namespace {

/// Hashing a MiB takes 0.05 ms, which is what is left to do when the last piece has come; smaller pieces only cost more
/// requests.
constexpr std::uint64_t piece_bytes_min = 1ULL << 20;

constexpr std::size_t pieces_max = 32; // of one read; larger experts have larger pieces

/// One read's pieces. The C library has no wrappers for these calls.
class piece_batch {
public:
    piece_batch(aio_context_t context, int descriptor, std::span<std::byte> into, std::uint64_t offset)
        : context_(context), into_(into) {
        const std::uint64_t count =
            std::min<std::uint64_t>(pieces_max, std::max<std::uint64_t>(into.size() / piece_bytes_min, 1));
        piece_bytes_ = round_up((into.size() + count - 1) / count, read_alignment);
        for (std::uint64_t begin = 0; begin < into.size(); begin += piece_bytes_) {
            iocb& piece = pieces_[count_];
            piece.aio_data = count_;
            piece.aio_lio_opcode = IOCB_CMD_PREAD;
            piece.aio_fildes = static_cast<std::uint32_t>(descriptor);
            piece.aio_buf = reinterpret_cast<std::uintptr_t>(into.data() + begin);
            piece.aio_nbytes = std::min(piece_bytes_, into.size() - begin);
            piece.aio_offset = static_cast<std::int64_t>(offset + begin);
            pointers_[count_++] = &piece;
        }
    }

    /// Asks for all that can be asked now; for the rest when something has come.
    void submit() {
        while (asked_ < count_) {
            const long got =
                ::syscall(SYS_io_submit, context_, static_cast<long>(count_ - asked_), pointers_.data() + asked_);
            if (got > 0)
                asked_ += static_cast<std::size_t>(got);
            else if (got == 0 || errno != EINTR)
                break;
        }
    }

    /// Waits for at least one piece. `wanted`: bytes that must be there in the end. False: the system does not say.
    bool wait(std::uint64_t wanted) {
        std::array<io_event, pieces_max> events{};
        const long got = ::syscall(SYS_io_getevents, context_, 1L, static_cast<long>(asked_ - come_), events.data(),
                                   static_cast<void*>(nullptr));
        for (long index = 0; index < got; ++index) {
            const auto& event = events[static_cast<std::size_t>(index)];
            const iocb& piece = pieces_[event.data];
            const std::uint64_t begin = event.data * piece_bytes_;
            // The last piece may reach beyond the end of the file.
            const bool whole = event.res >= 0 && (static_cast<std::uint64_t>(event.res) == piece.aio_nbytes ||
                                                  begin + static_cast<std::uint64_t>(event.res) >= wanted);
            failed_ = failed_ || !whole;
            here_[event.data] = true;
            ++come_;
        }
        while (first_missing_ < count_ && here_[first_missing_])
            ++first_missing_;
        return got >= 0 || errno == EINTR;
    }

    bool travelling() const noexcept { return come_ < asked_; }
    bool complete() const noexcept { return come_ == count_; }
    bool failed() const noexcept { return failed_; }
    std::uint64_t done() const noexcept { return std::min(first_missing_ * piece_bytes_, into_.size()); }

private:
    aio_context_t context_;
    std::span<std::byte> into_;
    std::uint64_t piece_bytes_ = 0;
    std::array<iocb, pieces_max> pieces_{};
    std::array<iocb*, pieces_max> pointers_{};
    std::array<bool, pieces_max> here_{};
    std::size_t count_ = 0, asked_ = 0, come_ = 0, first_missing_ = 0;
    bool failed_ = false;
};

} // namespace

pieced_reader::~pieced_reader() {
    for (const aio_context_t context : free_)
        ::syscall(SYS_io_destroy, context);
}

bool pieced_reader::worth(std::uint64_t bytes) noexcept {
    return bytes >= 2 * piece_bytes_min;
}

aio_context_t pieced_reader::take_context() {
    {
        const std::lock_guard held(lock_);
        if (!free_.empty()) {
            const aio_context_t context = free_.back();
            free_.pop_back();
            return context;
        }
        if (refused_)
            return 0;
    }
    aio_context_t context = 0;
    if (::syscall(SYS_io_setup, static_cast<long>(pieces_max), &context) == 0)
        return context;
    const std::lock_guard held(lock_);
    refused_ = true;
    return 0;
}

void pieced_reader::give_back(aio_context_t context) {
    const std::lock_guard held(lock_);
    free_.push_back(context);
}

bool pieced_reader::read(int descriptor, std::span<std::byte> into, std::uint64_t wanted, std::uint64_t offset,
                         const arrival_function& arrived) {
    const aio_context_t context = take_context();
    if (context == 0)
        return false;
    piece_batch batch(context, descriptor, into, offset);
    std::uint64_t told = 0;
    batch.submit();
    while (batch.travelling()) { // to the end, whatever happens: the kernel writes into memory that is ours
        if (!batch.wait(wanted)) {
            ::syscall(SYS_io_destroy, context); // which waits too
            return false;
        }
        if (batch.failed())
            continue;
        batch.submit();
        if (const std::uint64_t done = std::min(batch.done(), wanted); done > told)
            arrived(told = done);
    }
    give_back(context);
    return batch.complete() && !batch.failed();
}

} // namespace moira
