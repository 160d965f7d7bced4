#include "core/execute/cpu_quota.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

namespace moira {
namespace {

/// No path of a control group is deeper than this; a longer one is not read to its root.
constexpr int depth_max = 64;

constexpr double no_limit = std::numeric_limits<double>::infinity();

std::string first_line(const std::filesystem::path& file) {
    std::string line;
    std::ifstream in(file);
    std::getline(in, line);
    return line;
}

double ratio(double quota_us, double period_us) {
    return quota_us > 0 && period_us > 0 ? quota_us / period_us : no_limit;
}

/// v2: "max 100000" or "150000 100000".
double limit_v2(const std::filesystem::path& group) {
    const std::string line = first_line(group / "cpu.max");
    const std::size_t space = line.find(' ');
    if (space == std::string::npos || line.starts_with("max"))
        return no_limit;
    return ratio(std::strtod(line.c_str(), nullptr), std::strtod(line.c_str() + space, nullptr));
}

/// v1: a quota of -1 means none.
double limit_v1(const std::filesystem::path& group) {
    const std::string quota = first_line(group / "cpu.cfs_quota_us");
    const std::string period = first_line(group / "cpu.cfs_period_us");
    return ratio(std::strtod(quota.c_str(), nullptr), std::strtod(period.c_str(), nullptr));
}

/// The tightest limit from the group up to the mount. Inside a container the path may name a group that is not visible:
/// then only the mount's own files count.
double tightest(const std::filesystem::path& mount, std::string_view group,
                double (*limit)(const std::filesystem::path&)) {
    double tight = limit(mount);
    std::filesystem::path place = mount / std::filesystem::path(group).relative_path();
    for (int depth = 0; depth < depth_max && place != mount && place.has_relative_path(); ++depth) {
        tight = std::min(tight, limit(place));
        place = place.parent_path();
    }
    return tight;
}

bool names_cpu(std::string_view controllers) {
    while (!controllers.empty()) {
        const std::size_t comma = controllers.find(',');
        if (controllers.substr(0, comma) == "cpu")
            return true;
        controllers = comma == std::string_view::npos ? std::string_view() : controllers.substr(comma + 1);
    }
    return false;
}

/// One line "hierarchy:controllers:path".
double limit_of_line(const std::filesystem::path& mount, std::string_view line) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos)
        return no_limit;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view group = line.substr(second + 1);
    if (controllers.empty())
        return tightest(mount, group, limit_v2);
    if (!names_cpu(controllers))
        return no_limit;
    return std::min(tightest(mount / std::string(controllers), group, limit_v1),
                    tightest(mount / "cpu", group, limit_v1));
}

} // namespace

std::uint32_t cpu_quota_cores(const std::filesystem::path& mount, std::string_view self) {
    double tight = no_limit;
    while (!self.empty()) {
        const std::size_t end = self.find('\n');
        tight = std::min(tight, limit_of_line(mount, self.substr(0, end)));
        self = end == std::string_view::npos ? std::string_view() : self.substr(end + 1);
    }
    if (tight >= std::numeric_limits<std::uint32_t>::max())
        return 0;
    return std::max(1u, static_cast<std::uint32_t>(tight));
}

} // namespace moira
