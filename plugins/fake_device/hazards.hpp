// What a GPU may run at the same time: a clock per stream (Lamport 1978; Mattern 1989) tells which work comes before
// which, whatever order the fake device happens to run it in. Two accesses to the same memory of which one writes and
// neither comes first are a hazard.
#pragma once

#include "plugins/fake_device/fake_device.h"

#include <cstdint>
#include <map>
#include <vector>

namespace moira {

// By stream: the last position that comes before.
using stream_clock = std::map<uint64_t, uint64_t>;

void join(stream_clock& clock, const stream_clock& other);

struct memory_access {
    uint64_t stream = 0;   // its number
    uint64_t position = 0; // within the stream
    uint64_t queued = 0;   // among all work of the device
    stream_clock before;   // what comes before it on any stream
    uintptr_t begin = 0;
    uint64_t bytes = 0;
    bool writes = false;
};

class hazard_watch {
public:
    // The host has seen the end of all that `clock` names: what it queues from now on comes behind.
    void seen(const stream_clock& clock) { join(host_, clock); }
    const stream_clock& host() const { return host_; }

    // Compares with all earlier accesses.
    void add(memory_access access);

    // Memory goes: reads of it that the host has not seen the end of are a hazard.
    void freed(uintptr_t begin, uint64_t bytes);

    // Nothing is queued on any stream: what the host has seen cannot meet anything any more.
    void forget_seen();

    std::vector<moira_fake_hazard> found;

private:
    stream_clock host_;
    std::vector<memory_access> accesses_;
};

} // namespace moira
