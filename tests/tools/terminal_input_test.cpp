#include "tools/moira/terminal_input.hpp"

#include <csignal>
#include <doctest/doctest.h>
#include <string_view>
#include <thread>
#include <unistd.h>

using namespace moira;

namespace {

/// A pipe whose writing end the test holds.
struct pipe_ends {
    pipe_ends() { REQUIRE(::pipe(ends) == 0); }
    ~pipe_ends() {
        ::close(ends[0]);
        close_writer();
    }
    void write(std::string_view text) const {
        REQUIRE(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    void close_writer() {
        if (ends[1] >= 0)
            ::close(ends[1]);
        ends[1] = -1;
    }
    int ends[2] = {-1, -1};
};

} // namespace

TEST_CASE("lines come one by one, the last one without its end too") {
    const auto interrupts = interrupt_watch::start();
    REQUIRE(interrupts);
    pipe_ends ends;
    line_input input(ends.ends[0], *interrupts);
    ends.write("one\n\ntwo\nthr");
    std::string line;
    CHECK(input.read(line) == line_input::outcome::line);
    CHECK(line == "one");
    CHECK(input.read(line) == line_input::outcome::line);
    CHECK(line.empty());
    CHECK(input.read(line) == line_input::outcome::line);
    CHECK(line == "two");
    ends.write("ee");
    ends.close_writer();
    CHECK(input.read(line) == line_input::outcome::line);
    CHECK(line == "three");
    CHECK(input.read(line) == line_input::outcome::end);
}

TEST_CASE("Ctrl-C wakes a wait for a line, until it is forgotten") {
    const auto interrupts = interrupt_watch::start();
    REQUIRE(interrupts);
    pipe_ends ends;
    line_input input(ends.ends[0], *interrupts);
    std::string line;
    {
        const std::jthread other([] {
            std::this_thread::sleep_for(std::chrono::milliseconds(30));
            ::kill(::getpid(), SIGINT);
        });
        CHECK(input.read(line) == line_input::outcome::interrupted);
    }
    CHECK(interrupts->count() == 1);
    ends.write("still here\n");
    CHECK(input.read(line) == line_input::outcome::interrupted);
    interrupts->reset();
    CHECK(input.read(line) == line_input::outcome::line);
    CHECK(line == "still here");
    std::signal(SIGINT, SIG_DFL);
}
