#include "core/experts/available_memory.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace moira {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();
constexpr int lines_max = 4096; // of any file read here; the kernel writes a few dozen
constexpr int cgroup_depth_max = 64;

std::optional<std::uint64_t> parse_number(std::string_view text) {
    const auto begin = text.find_first_of("0123456789");
    if (begin == std::string_view::npos)
        return std::nullopt;
    std::uint64_t value = 0;
    if (std::from_chars(text.data() + begin, text.data() + text.size(), value).ec != std::errc())
        return std::nullopt;
    return value;
}

/// The number behind `key` at the start of a line.
std::optional<std::uint64_t> number_after(const std::filesystem::path& file, std::string_view key) {
    std::ifstream stream(file);
    std::string line;
    for (int count = 0; count < lines_max && std::getline(stream, line); ++count)
        if (line.starts_with(key))
            return parse_number(std::string_view(line).substr(key.size()));
    return std::nullopt;
}

struct cgroup_files {
    const char *limit, *usage, *droppable_key;
};
constexpr cgroup_files version_1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "};
constexpr cgroup_files version_2 = {"memory.max", "memory.current", "inactive_file "};

std::uint64_t available_in(const std::filesystem::path& folder, const cgroup_files& files) {
    const auto limit = number_after(folder / files.limit, ""); // "max" has no digits
    const auto usage = number_after(folder / files.usage, "");
    if (!limit || !usage)
        return unlimited;
    const std::uint64_t droppable = number_after(folder / "memory.stat", files.droppable_key).value_or(0);
    const std::uint64_t held = *usage - std::min(*usage, droppable);
    return *limit - std::min(*limit, held);
}

/// The least that `group` and its ancestors below `mount` allow. Inside a container the path may name a folder that is
/// not visible; then only the ancestors that are count.
std::uint64_t available_along(const std::filesystem::path& mount, std::string group, const cgroup_files& files) {
    std::uint64_t least = available_in(mount, files);
    for (int depth = 0; depth < cgroup_depth_max && group.size() > 1; ++depth) {
        least = std::min(least, available_in(mount / group.substr(1), files));
        group.resize(group.find_last_of('/'));
    }
    return least;
}

} // namespace

std::uint64_t available_memory_bytes(const std::filesystem::path& root) {
    const auto available_kib = number_after(root / "proc/meminfo", "MemAvailable:");
    std::uint64_t least = available_kib ? *available_kib * 1024 : unlimited;
    std::ifstream groups(root / "proc/self/cgroup");
    std::string line; // "4:memory:/group" or "0::/group"
    for (int count = 0; count < lines_max && std::getline(groups, line); ++count) {
        const auto first = line.find(':');
        const auto second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos || line.substr(second + 1, 1) != "/")
            continue;
        std::string controllers = line.substr(first, second - first);
        controllers.front() = ',';
        controllers.push_back(',');
        const std::string group = line.substr(second + 1);
        if (controllers == ",,")
            least = std::min(least, available_along(root / "sys/fs/cgroup", group, version_2));
        else if (controllers.find(",memory,") != std::string::npos)
            least = std::min(least, available_along(root / "sys/fs/cgroup/memory", group, version_1));
    }
    return least == unlimited ? 0 : least;
}

} // namespace moira
