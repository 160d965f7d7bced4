#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace moira {

/// Which lost parts are started again. A part that keeps ending would keep failing requests: beyond the bound the
/// runtime ends and says why. Plain state; counts() may be called from any thread, the rest from the supervisor.
class restart_policy {
public:
    using time_point = std::chrono::steady_clock::time_point;

    /// Five within a minute: a transient fault is over by then, a permanent one is not.
    static constexpr std::size_t restarts_max = 5;
    static constexpr std::chrono::seconds window{60};

    /// `part` was lost at `now`: true when it should be started again, which is counted.
    bool allow(const std::string& part, time_point now);

    /// Restarts so far, by part.
    std::map<std::string, std::uint64_t> counts() const;

private:
    struct history {
        std::uint64_t count = 0;
        std::vector<time_point> recent;  // within the window
    };

    mutable std::mutex lock_;
    std::map<std::string, history> parts_;
};

}  // namespace moira
