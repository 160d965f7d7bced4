// What compute capability 9.0 leaves under way: bulk copies that arrive at mbarriers, and products of warpgroups. All
// of it happens at the latest moment that the program allows: data lands when a thread waits for its barrier and
// nothing else is missing; a product reads its rows at the wait.
#pragma once

#include "kernels/cuda/device/simt_host.hpp"

#include <array>
#include <map>
#include <vector>

namespace moira {

struct bulk_transfer {
    unsigned char* shared;
    const unsigned char* global;
    std::vector<unsigned char> at_issue;
    simt_place place;
};

struct simt_mbarrier {
    uint32_t arrivals; // of a phase
    uint32_t arrivals_missing;
    int64_t bytes_missing = 0;
    uint64_t phase = 0; // under way
    uint32_t epoch;     // of the block's barriers, when it was initialised
    uint32_t thread;    // that did
    bool fenced = false;
    uint32_t waiting = 0;
    std::vector<bulk_transfer> transfers;
    std::vector<uint32_t> gathered; // stamps of whoever arrived
    std::vector<uint32_t> known;    // to those who wait: as gathered when the last phase ended
};

// One thread's operands of wgmma.
struct wgmma_operands {
    float* d;
    uint32_t n;
    const uint32_t* a;
    uint64_t b;
    bool accumulate;
    simt_place place;
};

// What a warpgroup has issued. Registers of A are taken at issue: the compiler keeps them for the hardware.
struct wgmma_operation {
    const float* sums; // of the first lane: names the accumulator
    uint32_t n;
    bool accumulate;
    uint64_t b;
    std::array<std::array<uint32_t, 4>, 128> a;
    uint32_t group; // it is committed with
    uint32_t first_thread;
    simt_place place;
};

// An accumulator with products under way: its registers hold NaN until the last of them is waited for.
struct wgmma_sums_under_way {
    std::array<float*, 128> registers;
    std::vector<float> values; // [128][n / 2]
    uint32_t operations = 0;
};

using warpgroup_execute = void (*)(class block_run& run, void* const* operands, uint32_t group);

struct simt_warpgroup {
    // An operation that all 128 lanes join.
    warpgroup_execute execute = nullptr;
    simt_place place{};
    uint32_t arrived = 0;
    std::array<void*, 128> operands;

    bool fenced = false; // since the registers may have changed
    uint32_t groups_committed = 0;
    std::vector<wgmma_operation> operations;
    std::map<const float*, wgmma_sums_under_way> sums;
};

} // namespace moira
