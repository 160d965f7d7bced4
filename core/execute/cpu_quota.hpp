#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace moira {

/// Whole cores that the process's control groups (cgroup v1 `cpu` controller, or v2) and all groups above them allow;
/// 0: no limit. Rounded down, at least 1: a team with a throttled member stands still as a whole.
/// `mount` is usually /sys/fs/cgroup, `self` the text of /proc/self/cgroup. Unreadable files count as no limit.
std::uint32_t cpu_quota_cores(const std::filesystem::path& mount, std::string_view self);

} // namespace moira
