// Dense weights are locked where the limits allow, and it is said where they do not.
#include "core/experts/locked_memory.hpp"
#include "tests/execute/test_engine.hpp"
#include "tests/support/memory_lock_limit.hpp"

#include <algorithm>
#include <doctest/doctest.h>

using namespace moira;

namespace {

/// Sentences of a loaded model about what is not locked, and what was locked meanwhile.
struct locking {
    rlim_t limit_bytes = 0;
    std::ptrdiff_t sentences = 0;
    std::uint64_t locked_bytes = 0;
};

locking load_with(rlim_t limit_bytes) {
    const memory_lock_limit limit(limit_bytes);
    assume_swap(true);
    const auto before = locked_bytes_of_process();
    test_engine::wanted how;
    how.options.experts_budget_share = 0.2;
    const auto loaded =
        test_engine::required(std::filesystem::path(MOIRA_SOURCE_DIRECTORY) / "config" / "models" / "moira-demo", how);
    const auto notices = loaded.model->notices();
    const auto about = std::count_if(notices.begin(), notices.end(), [](const std::string& notice) {
        return notice.find("not locked") != std::string::npos;
    });
    assume_swap({});
    return {limit.bytes(), about, locked_bytes_of_process() - before};
}

} // namespace

TEST_CASE("what the limit refuses to lock is said: dense weights and experts") {
    const auto refused = load_with(64 << 10);
    CHECK(refused.sentences == 2);
    CHECK(refused.locked_bytes == 0);
}

TEST_CASE("what the limit allows is locked, and nothing is said where that is all") {
    constexpr std::uint64_t enough_bytes = 1 << 30;
    const auto allowed = load_with(enough_bytes);
    if (allowed.limit_bytes < 4 << 20) {
        MESSAGE("the system's hard limit is lower than any dense weight");
        return;
    }
    CHECK(allowed.locked_bytes > 1 << 20);
    CHECK(allowed.locked_bytes <= allowed.limit_bytes);
    CHECK((allowed.sentences == 0) == (allowed.limit_bytes == enough_bytes));
}
