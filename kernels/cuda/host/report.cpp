// Names, texts, schedules, and the bank counters.
#include "kernels/cuda/host/block_run.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

namespace moira {

namespace {

constexpr uint32_t banks = 32; // of 4 bytes, on every GPU since compute capability 5.0

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
    static constexpr std::string_view names[] = {
        "race",           "unwritten read", "out of bounds",   "unregistered", "misaligned", "divergent barrier",
        "divergent warp", "copy in flight", "shared overflow", "spinning",     "exception"};
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

void block_run::count_matrix_banks(void* const* rows) {
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
        std::vector<uintptr_t> addresses;
        for (uint32_t row = 0; row < 8; ++row)
            addresses.push_back(uintptr_t(rows[matrix * 8 + row]));
        ++report_.bank_phases;
        report_.bank_conflicts += extra_passes(addresses, 16);
    }
}

// The n-th run of one instruction by each lane of a warp counts as one access of the warp.
void block_run::count_banks(const void* address, uint32_t bytes, const void* instruction) {
    if (!config_.count_bank_conflicts || !is_shared(address, bytes))
        return;
    const uint32_t lane = current_ % 32;
    auto& group = bank_groups_[{instruction, current_ / 32}];
    const size_t turn = group.turns[lane]++;
    if (group.addresses.size() <= turn)
        group.addresses.resize(turn + 1);
    group.addresses[turn].push_back({lane, uintptr_t(address)});
    group.bytes = bytes;
}

void block_run::close_bank_groups() {
    for (const auto& [key, group] : bank_groups_) {
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
    bank_groups_.clear();
}

} // namespace moira
