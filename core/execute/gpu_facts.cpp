#include "core/execute/gpu_facts.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

namespace moira {
namespace {

/// Files of the kernel are a line or two; whatever is longer is not what is looked for.
constexpr std::size_t text_bytes_max = 4096;
/// More than a large machine has functions on its buses; ends a walk over a folder that is none.
constexpr std::size_t pci_entries_max = 65536;
constexpr std::uint32_t device_nodes_max = 64;

std::string read_text(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::string text(text_bytes_max, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    return text;
}

/// "0x10de\n"
std::optional<std::uint32_t> read_hex(const std::filesystem::path& file) {
    const std::string text = read_text(file);
    if (!text.starts_with("0x"))
        return std::nullopt;
    std::uint32_t value = 0;
    const auto read = std::from_chars(text.data() + 2, text.data() + text.size(), value, 16);
    return read.ec == std::errc() ? std::optional(value) : std::nullopt;
}

/// "0000:3b:00.0", function 0 only: audio and USB of the same card are functions 1 to 3.
std::optional<std::uint32_t> parse_address(const std::string& name) {
    unsigned domain = 0, bus = 0, slot = 0, function = 0;
    int used = 0;
    if (std::sscanf(name.c_str(), "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &used) != 4 ||
        static_cast<std::size_t>(used) != name.size() || function != 0)
        return std::nullopt;
    return domain << 16 | bus << 8 | slot;
}

std::vector<moira_gpu_facts> list_gpus(const std::filesystem::path& folder) {
    constexpr std::uint32_t nvidia = 0x10de;
    constexpr std::uint32_t display_class = 0x03; // base class; 0x0302 is a 3D controller without a display
    std::vector<moira_gpu_facts> found;
    std::error_code code;
    std::size_t entries = 0;
    for (std::filesystem::directory_iterator entry(folder, code), end;
         !code && entry != end && entries < pci_entries_max; entry.increment(code), ++entries) {
        const auto address = parse_address(entry->path().filename().string());
        if (!address || read_hex(entry->path() / "vendor") != nvidia)
            continue;
        const auto device_class = read_hex(entry->path() / "class");
        const auto device = read_hex(entry->path() / "device");
        if (device && device_class && *device_class >> 16 == display_class)
            found.push_back({*device, *address});
    }
    std::sort(found.begin(), found.end(),
              [](const moira_gpu_facts& a, const moira_gpu_facts& b) { return a.pci_address < b.pci_address; });
    return found;
}

/// /dev/nvidia0, /dev/nvidia1, ...: present exactly when a driver has found devices.
std::uint32_t count_nodes(const std::filesystem::path& dev) {
    std::error_code ignored;
    std::uint32_t count = 0;
    for (std::uint32_t index = 0; index < device_nodes_max; ++index)
        count += std::filesystem::exists(dev / ("nvidia" + std::to_string(index)), ignored) ? 1 : 0;
    return count;
}

} // namespace

std::uint32_t nvidia_driver_major(std::string_view version_text) {
    // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul ...": the first word that is a number with a
    // dot. "x86_64" is none.
    for (std::size_t at = version_text.find(' '); at != std::string_view::npos; at = version_text.find(' ', at + 1)) {
        const char* const begin = version_text.data() + at + 1;
        const char* const end = version_text.data() + version_text.size();
        std::uint32_t major = 0;
        const auto read = std::from_chars(begin, end, major);
        if (read.ec == std::errc() && read.ptr != end && *read.ptr == '.')
            return major;
    }
    return 0;
}

void read_gpu_facts(const std::filesystem::path& root, moira_device_facts& facts) {
    facts.cuda_devices = count_nodes(root / "dev");
    facts.nvidia_driver = nvidia_driver_major(read_text(root / "proc/driver/nvidia/version"));
    const auto gpus = list_gpus(root / "sys/bus/pci/devices");
    facts.gpus = static_cast<std::uint32_t>(std::min<std::size_t>(gpus.size(), MOIRA_GPUS_MAX));
    std::copy_n(gpus.begin(), facts.gpus, facts.gpu);
}

} // namespace moira
