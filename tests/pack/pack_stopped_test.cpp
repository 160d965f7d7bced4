// What is left when packing stops before its end, and how it goes on.
#include "core/pack/pack_place.hpp"
#include "tests/pack/layout_plugins.hpp"

#include <chrono>
#include <csignal>
#include <doctest/doctest.h>
#include <fstream>
#include <random>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace moira;
namespace fs = std::filesystem;

namespace {

/// Packs in a process of its own, which is killed after a while. True: it came to its end before.
bool pack_until_killed(pack_request request, std::chrono::microseconds after) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0)
        std::_Exit(pack_model(request) ? 0 : 1);
    std::this_thread::sleep_for(after);
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        return false;
    CHECK(WEXITSTATUS(status) == 0);
    return true;
}

/// A pack that is interrupted when something was done and not everything. On a busy machine it can be done before
/// anybody looks: then it is made again.
error interrupted_pack(pack_request request) {
    bool begun = false;
    request.threads = 1;
    request.commit_bytes = 1;
    request.progress = [&](std::uint64_t done, std::uint64_t) { begun = done > 0; };
    request.interrupted = [&] { return begun; };
    for (int attempt = 0; attempt < 50; ++attempt) {
        const auto made = pack_model(request);
        if (!made)
            return made.error();
        fs::remove_all(request.target);
    }
    FAIL("never interrupted");
    return {};
}

/// Files may not grow beyond it while this lives; the signal that tells of it is off.
class file_size_limit {
public:
    explicit file_size_limit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit limit{bytes, before_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    file_size_limit(const file_size_limit&) = delete;
    file_size_limit& operator=(const file_size_limit&) = delete;
    ~file_size_limit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    rlimit before_{};
    void (*handler_)(int);
};

} // namespace

TEST_CASE("killed at random moments and started again, packing makes the same bytes") {
    std::mt19937 random(11);
    std::uint32_t kills = 0;
    const layout_plugins plugins("cpu_reference");
    for (const auto& [precision, layout] :
         {std::pair<packed_precision, const op_selector*>{packed_precision::keep, nullptr},
          {packed_precision::fp8, nullptr},
          {packed_precision::keep, plugins.host.get()},
          {packed_precision::fp8, plugins.host.get()}}) {
        const temporary_folder folder(quick_place());
        auto undisturbed = request_for(small_model(), folder.path() / "undisturbed", precision);
        undisturbed.layout = layout;
        pack_well(undisturbed);
        const auto expected = contents_of(folder.path() / "undisturbed");
        for (int round = 0; round < 6; ++round) {
            const auto target = folder.path() / ("killed" + std::to_string(round));
            auto request = request_for(small_model(), target, precision);
            request.layout = layout;
            request.commit_bytes = 20'000; // every expert or two
            // Longer each time: on a slow disk too it comes to its end.
            for (std::uint32_t limit_us = 4'000;
                 !pack_until_killed(request, std::chrono::microseconds(random() % limit_us));
                 limit_us += limit_us / 4) {
                ++kills;
                REQUIRE(limit_us < 600'000'000);
                if (fs::exists(target / "config.json"))
                    break; // killed between its last act and its exit
            }
            if (fs::exists(target.string() + ".pack-journal"))
                pack_well(request); // all that was missing is its removal
            CHECK(contents_of(target) == expected);
            CHECK_FALSE(fs::exists(target.string() + ".part"));
            CHECK_FALSE(fs::exists(target.string() + ".pack-journal"));
        }
    }
    CHECK(kills > 24);
}

TEST_CASE("an interrupted pack keeps what was done and goes on from there") {
    const temporary_folder folder(quick_place());
    const auto target = folder.path() / "packed";
    auto request = request_for(small_model(), target);
    pack_well(request_for(small_model(), folder.path() / "undisturbed"));
    const auto stopped = interrupted_pack(request);
    CHECK(stopped.code == errc::cancelled);
    CHECK(stopped.message.find(target.string() + ".part") != std::string::npos);
    CHECK_FALSE(fs::exists(target));
    std::uint64_t most = 0;
    request.progress = [&](std::uint64_t done, std::uint64_t all) {
        CHECK(done >= most);
        CHECK(done <= all);
        most = done;
    };
    const auto made = pack_well(request);
    CHECK(made.resumed_bytes > 0);
    CHECK(contents_of(target) == contents_of(folder.path() / "undisturbed"));
}

TEST_CASE("other options do not go on with an unfinished pack; --restart throws it away") {
    const temporary_folder folder(quick_place());
    const auto target = folder.path() / "packed";
    REQUIRE(interrupted_pack(request_for(small_model(), target)).code == errc::cancelled);
    auto other = request_for(small_model(), target, packed_precision::fp8);
    const auto refused = pack_model(other);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::invalid_argument);
    CHECK(refused.error().message.find("--restart") != std::string::npos);
    other.restart = true;
    CHECK(pack_well(other).resumed_bytes == 0);
}

TEST_CASE("a shard that vanished from an unfinished pack is made again") {
    const temporary_folder folder(quick_place());
    const auto target = folder.path() / "packed";
    pack_well(request_for(bundled_model(), folder.path() / "undisturbed"));
    const auto request = request_for(bundled_model(), target);
    interrupted_pack(request);
    std::vector<fs::path> shards;
    for (const auto& entry : fs::directory_iterator(target.string() + ".part"))
        shards.push_back(entry.path());
    std::sort(shards.begin(), shards.end());
    fs::remove(shards.front());
    pack_well(request);
    CHECK(contents_of(target) == contents_of(folder.path() / "undisturbed"));
}

TEST_CASE("when files cannot grow the source stays as it is, the message says so, and room lets it go on") {
    const temporary_folder folder(quick_place());
    const auto target = folder.path() / "packed";
    const auto before = contents_of(small_model());
    {
        const file_size_limit full(100'000);
        const auto refused = pack_model(request_for(small_model(), target));
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::io_error);
        CHECK(refused.error().message.find(small_model().string() + " is as it was") != std::string::npos);
    }
    CHECK(contents_of(small_model()) == before);
    CHECK_FALSE(fs::exists(target));
    pack_well(request_for(small_model(), target));
}

TEST_CASE("too little space is said with its arithmetic before anything is written") {
    const temporary_folder folder(quick_place());
    const auto place = pack_place::of(small_model(), folder.path() / "packed");
    REQUIRE(place);
    REQUIRE(place->create());
    const auto refused = place->require_space(std::uint64_t{1} << 60);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::io_error);
    CHECK(refused.error().message.find(std::to_string(std::uint64_t{1} << 60)) != std::string::npos);
    CHECK(place->require_space(1));
    CHECK(place->discard());
    CHECK_FALSE(fs::exists(place->part()));
}
