// Names, texts, schedules, and the counters of memory requests.
#include "kernels/cuda/host/block_run.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

namespace moira {

namespace {

constexpr uint32_t banks = 32;        // of 4 bytes, on every GPU since compute capability 5.0
constexpr uint32_t sector_bytes = 32; // what global memory is read and written in

// Passes that one phase (lanes whose bytes fill the banks once) needs beyond the first: the most different words that
// one bank must give.
uint64_t extra_passes(const std::vector<uintptr_t>& addresses, uint32_t bytes) {
    std::set<uintptr_t> words[banks];
    for (const uintptr_t address : addresses)
        for (uint32_t word = 0; word < (bytes + 3) / 4; ++word)
            words[(address / 4 + word) % banks].insert(address / 4 + word);
    size_t most = 1;
    for (const auto& bank : words)
        most = std::max(most, bank.size());
    return most - 1;
}

} // namespace

std::string_view name_of(simt_fault fault) {
    static constexpr std::string_view names[] = {"race",
                                                 "unwritten read",
                                                 "out of bounds",
                                                 "unregistered",
                                                 "misaligned",
                                                 "divergent barrier",
                                                 "divergent warp",
                                                 "copy in flight",
                                                 "shared overflow",
                                                 "spinning",
                                                 "exception",
                                                 "misused barrier",
                                                 "starved barrier",
                                                 "unfenced proxy"};
    return names[size_t(fault)];
}

std::vector<simt_config> simt_all_schedules(uint64_t seed) {
    std::vector<simt_config> configs;
    for (const simt_schedule schedule : {simt_schedule::forward, simt_schedule::reverse, simt_schedule::warp_greedy,
                                         simt_schedule::random, simt_schedule::random_greedy}) {
        simt_config config;
        config.schedule = schedule;
        config.seed = seed++;
        config.shuffle_blocks = schedule >= simt_schedule::warp_greedy;
        configs.push_back(config);
    }
    return configs;
}

void simt_report::add_counts(const simt_report& other) {
    switches += other.switches;
    barriers += other.barriers;
    accesses += other.accesses;
    bank_phases += other.bank_phases;
    bank_conflicts += other.bank_conflicts;
    global_requests += other.global_requests;
    global_sectors += other.global_sectors;
    global_sectors_least += other.global_sectors_least;
}

bool simt_report::has(simt_fault fault) const {
    return std::any_of(findings.begin(), findings.end(), [&](const simt_finding& f) { return f.fault == fault; });
}

std::string simt_report::text() const {
    std::string all;
    for (const simt_finding& finding : findings)
        all += std::string(name_of(finding.fault)) + ": " + finding.text + "\n";
    return all;
}

std::string text_of(const simt_place& place) {
    const char* slash = std::strrchr(place.file, '/');
    return std::string(slash != nullptr ? slash + 1 : place.file) + ":" + std::to_string(place.line);
}

// A hook knows only its instruction: `addr2line -e <executable> <offset>` names the line.
std::string text_of(const simt_origin& origin) {
    if (origin.file != nullptr)
        return text_of(simt_place{origin.file, origin.line});
    Dl_info info{};
    char text[64];
    const bool known = dladdr(origin.address, &info) != 0;
    const uintptr_t offset = uintptr_t(origin.address) - (known ? uintptr_t(info.dli_fbase) : 0);
    std::snprintf(text, sizeof text, "+0x%llx", static_cast<unsigned long long>(offset - (origin.address ? 1 : 0)));
    return text;
}

void block_run::count_matrix_banks(void* const* rows, uint32_t matrices) {
    for (uint32_t matrix = 0; matrix < matrices; ++matrix) {
        std::vector<uintptr_t> addresses;
        for (uint32_t row = 0; row < 8; ++row)
            addresses.push_back(uintptr_t(rows[matrix * 8 + row]));
        ++report_.bank_phases;
        report_.bank_conflicts += extra_passes(addresses, 16);
    }
}

// The n-th run of one instruction by each lane of a warp counts as one access of the warp.
void block_run::count_access(const void* address, uint32_t bytes, uint64_t instruction) {
    if (!config_.count_memory_requests || fibers_[current_]->owns(address))
        return;
    const bool shared = is_shared(address, bytes);
    if (!shared && memory_.find(address) == nullptr)
        return;
    const uint32_t lane = current_ % 32;
    // A copy has an instruction for both of its ends.
    auto& group = access_groups_[{instruction * 2 + (shared ? 1 : 0), current_ / 32}];
    const size_t turn = group.turns[lane]++;
    if (group.addresses.size() <= turn)
        group.addresses.resize(turn + 1);
    group.addresses[turn].push_back({lane, uintptr_t(address)});
    group.bytes = bytes;
    group.shared = shared;
}

void block_run::count_access(const void* address, uint32_t bytes, simt_place place) {
    count_access(address, bytes, uint64_t(uintptr_t(place.file)) << 16 | uint64_t(place.line));
}

void block_run::count_banks(const access_group& group) {
    const uint32_t phase_lanes = std::min(32u, 128 / std::max(group.bytes, 4u));
    for (const auto& turn : group.addresses) {
        std::map<uint32_t, std::vector<uintptr_t>> phases;
        for (const auto& [lane, address] : turn)
            phases[lane / phase_lanes].push_back(address);
        for (const auto& [phase, addresses] : phases) {
            ++report_.bank_phases;
            report_.bank_conflicts += extra_passes(addresses, group.bytes);
        }
    }
}

void block_run::count_sectors(const access_group& group) {
    for (const auto& turn : group.addresses) {
        std::set<uintptr_t> sectors;
        std::set<uintptr_t> bytes;
        for (const auto& [lane, address] : turn) {
            sectors.insert(address / sector_bytes);
            sectors.insert((address + group.bytes - 1) / sector_bytes);
            bytes.insert(address);
        }
        ++report_.global_requests;
        report_.global_sectors += sectors.size();
        report_.global_sectors_least += (bytes.size() * group.bytes + sector_bytes - 1) / sector_bytes;
    }
}

void block_run::close_access_groups() {
    for (const auto& [key, group] : access_groups_)
        group.shared ? count_banks(group) : count_sectors(group);
    access_groups_.clear();
}

} // namespace moira
