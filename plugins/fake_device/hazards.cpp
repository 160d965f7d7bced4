#include "plugins/fake_device/hazards.hpp"

#include <algorithm>

namespace moira {

namespace {

bool reaches(const stream_clock& clock, const memory_access& access) {
    const auto at = clock.find(access.stream);
    return at != clock.end() && at->second >= access.position;
}

bool comes_before(const memory_access& first, const memory_access& second) {
    return (first.stream == second.stream && first.position < second.position) || reaches(second.before, first);
}

bool overlap(const memory_access& access, uintptr_t begin, uint64_t bytes) {
    return access.begin < begin + bytes && begin < access.begin + access.bytes;
}

uint32_t kind_of(const memory_access& earlier, const memory_access& later) {
    if (earlier.writes && later.writes)
        return MOIRA_FAKE_HAZARD_TWO_COPIES;
    return later.writes ? MOIRA_FAKE_HAZARD_COPY_OVERTAKES_READER : MOIRA_FAKE_HAZARD_READER_OVERTAKES_COPY;
}

} // namespace

void join(stream_clock& clock, const stream_clock& other) {
    for (const auto& [stream, position] : other)
        clock[stream] = std::max(clock[stream], position);
}

void hazard_watch::add(memory_access access) {
    for (const memory_access& other : accesses_) {
        if (!overlap(other, access.begin, access.bytes) || !(other.writes || access.writes) ||
            comes_before(other, access) || comes_before(access, other))
            continue;
        const bool other_first = other.queued < access.queued;
        const memory_access& earlier = other_first ? other : access;
        const memory_access& later = other_first ? access : other;
        found.push_back({kind_of(earlier, later), 0, std::max(earlier.begin, later.begin)});
    }
    accesses_.push_back(std::move(access));
}

void hazard_watch::freed(uintptr_t begin, uint64_t bytes) {
    for (const memory_access& access : accesses_)
        if (overlap(access, begin, bytes) && !access.writes && !reaches(host_, access))
            found.push_back({MOIRA_FAKE_HAZARD_FREED, 0, std::max(access.begin, begin)});
    std::erase_if(accesses_, [&](const memory_access& access) { return overlap(access, begin, bytes); });
}

void hazard_watch::forget_seen() {
    std::erase_if(accesses_, [&](const memory_access& access) { return reaches(host_, access); });
}

} // namespace moira
