#include "actors/restart_policy.hpp"

namespace moira {

bool restart_policy::allow(const std::string& part, time_point now) {
    const std::lock_guard held(lock_);
    auto& past = parts_[part];
    std::erase_if(past.recent, [now](time_point when) { return now - when > window; });
    if (past.recent.size() >= restarts_max)
        return false;
    past.recent.push_back(now);
    ++past.count;
    return true;
}

std::map<std::string, std::uint64_t> restart_policy::counts() const {
    const std::lock_guard held(lock_);
    std::map<std::string, std::uint64_t> all;
    for (const auto& [part, past] : parts_)
        all[part] = past.count;
    return all;
}

}  // namespace moira
