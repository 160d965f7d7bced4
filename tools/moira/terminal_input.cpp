#include "tools/moira/terminal_input.hpp"

#include "tools/moira/exit_codes.hpp"
#include "tools/moira/input_text.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace moira {

namespace {

// A handler can reach nothing but what is static.
std::atomic<int> interrupt_count{0};
std::atomic<int> interrupt_descriptor{-1};
static_assert(std::atomic<int>::is_always_lock_free);

void count_interrupt(int) {
    const int kept = errno;
    if (++interrupt_count > 2)
        std::_Exit(exit_interrupted);
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(interrupt_descriptor, &one, sizeof one);
    errno = kept;
}

} // namespace

result<interrupt_watch> interrupt_watch::start() {
    if (interrupt_descriptor < 0)
        interrupt_descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupt_descriptor < 0)
        return fail(errc::io_error, std::string("no descriptor for Ctrl-C: ") + std::strerror(errno));
    struct sigaction action {};
    action.sa_handler = count_interrupt;
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, nullptr);
    return interrupt_watch(interrupt_descriptor);
}

int interrupt_watch::count() const noexcept {
    return interrupt_count;
}

void interrupt_watch::reset() const noexcept {
    std::uint64_t pressed = 0;
    [[maybe_unused]] const auto taken = ::read(descriptor_, &pressed, sizeof pressed);
    interrupt_count = 0;
}

bool line_input::take_line(std::string& line) {
    const auto end = buffer_.find('\n', searched_);
    if (end == std::string::npos) {
        searched_ = buffer_.size();
        return false;
    }
    line.assign(buffer_, 0, end);
    buffer_.erase(0, end + 1);
    searched_ = 0;
    return true;
}

result<line_input::outcome> line_input::read(std::string& line) {
    std::array<char, 4'096> block; // the most that a terminal gives at once
    while (interrupts_.count() == 0) {
        if (take_line(line))
            return outcome::line;
        if (ended_) {
            line = std::move(buffer_);
            buffer_.clear();
            searched_ = 0;
            return line.empty() ? outcome::end : outcome::line;
        }
        if (buffer_.size() > input_bytes_max)
            return fail(errc::prompt_too_long,
                        "a line of more than " + std::to_string(input_bytes_max) + " bytes; give less text");
        std::array<pollfd, 2> waiting{{{descriptor_, POLLIN, 0}, {interrupts_.descriptor(), POLLIN, 0}}};
        if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR)
            return fail(errc::io_error, std::string("standard input: ") + std::strerror(errno));
        if (waiting[0].revents == 0 || interrupts_.count() != 0)
            continue;
        const auto count = ::read(descriptor_, block.data(), block.size());
        if (count < 0 && errno != EINTR && errno != EAGAIN)
            return fail(errc::io_error, std::string("standard input: ") + std::strerror(errno));
        ended_ = count == 0;
        if (count > 0)
            buffer_.append(block.data(), static_cast<std::size_t>(count));
    }
    return outcome::interrupted;
}

} // namespace moira
