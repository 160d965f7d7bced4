#include "tests/cuda/sm90/planted_faults.hpp"

#include "kernels/cuda/device/simt_sm90.hpp"

namespace moira {

namespace {

// ---- a ring of stages: one warp copies, four read ----

enum class ring_fault {
    none,
    no_wait,        // for the copies
    one_warp_waits, // and the others read all the same
    early_release,  // the place is given back before it was read
    no_release,     // it is never given back
    lane_release,   // one lane gives it back without __syncwarp
    no_empty_wait,  // the copying warp does not wait for readers
    wrong_parity,
    few_bytes,  // fewer expected than copied
    many_bytes, // more
    no_expectation,
    no_init_fence,
    no_init_barrier,
    not_initialised,
    too_many_arrivals,
    odd_size,
    misaligned,
    outside,
    source_changed,
    not_waited_for // a copy after the last stage
};

constexpr uint32_t ring_stages = 6;
constexpr uint32_t ring_slots = 2;
constexpr uint32_t ring_bytes = 512; // of a stage: a word per reader
constexpr uint32_t ring_readers = 128;

template <ring_fault fault>
SIMT_FN void copy_ring(unsigned char* source, unsigned char* slots, uint64_t* full, uint64_t* empty) {
    const uint32_t lane = lane_of_thread();
    for (uint32_t stage = 0; stage < ring_stages; ++stage) {
        const uint32_t slot = stage % ring_slots;
        if (fault != ring_fault::no_empty_wait)
            mbarrier_wait(empty + slot, (stage / ring_slots % 2) ^ 1u);
        if (lane == 0) {
            const uint32_t bytes = fault == ring_fault::few_bytes    ? ring_bytes - 16
                                   : fault == ring_fault::many_bytes ? ring_bytes + 16
                                                                     : ring_bytes;
            if (fault == ring_fault::no_expectation)
                mbarrier_arrive(full + slot);
            else
                mbarrier_arrive_expect(full + slot, bytes);
        }
        __syncwarp();
        if (lane < 2) {
            const unsigned char* from = source + stage * ring_bytes + lane * (ring_bytes / 2);
            if (fault == ring_fault::misaligned)
                from += 8;
            if (fault == ring_fault::outside)
                from += ring_bytes;
            bulk_copy(slots + slot * ring_bytes + lane * (ring_bytes / 2), from,
                      ring_bytes / 2 - (fault == ring_fault::odd_size ? 8 : 0), full + slot);
        }
        if (fault == ring_fault::source_changed && stage == 3 && lane == 0)
            source[stage * ring_bytes] = 77;
    }
    if (fault == ring_fault::not_waited_for && lane == 0) {
        mbarrier_wait(empty, ring_stages / ring_slots % 2 ^ 1u);
        bulk_copy(slots, source, 16, full);
    }
}

template <ring_fault fault>
SIMT_FN uint32_t read_ring(const unsigned char* slots, uint64_t* full, uint64_t* empty) {
    const uint32_t lane = lane_of_thread();
    uint32_t sum = 0;
    for (uint32_t stage = 0; stage < ring_stages; ++stage) {
        const uint32_t slot = stage % ring_slots;
        const uint32_t parity = stage / ring_slots % 2 ^ (fault == ring_fault::wrong_parity ? 1u : 0u);
        if (fault != ring_fault::no_wait && (fault != ring_fault::one_warp_waits || warp_of_thread() == 0))
            mbarrier_wait(full + slot, parity);
        if (fault == ring_fault::early_release) {
            __syncwarp();
            if (lane == 0)
                mbarrier_arrive(empty + slot);
        }
        sum += load_vector<uint32_t>(slots + slot * ring_bytes + threadIdx.x * 4);
        if (fault == ring_fault::early_release || fault == ring_fault::no_release)
            continue;
        if (fault != ring_fault::lane_release)
            __syncwarp();
        if (lane == 0)
            mbarrier_arrive(empty + slot);
        if (fault == ring_fault::too_many_arrivals && threadIdx.x == 1)
            mbarrier_arrive(full + slot);
    }
    return sum;
}

template <ring_fault fault>
SIMT_KERNEL(160)
ring(unsigned char* source, uint32_t* out) {
    SIMT_SHARED_DYNAMIC(unsigned char, slots);
    SIMT_SHARED(uint64_t, barriers, 2 * ring_slots);
    uint64_t* full = barriers;
    uint64_t* empty = barriers + ring_slots;
    if (threadIdx.x == 0) {
        for (uint32_t slot = 0; slot < ring_slots; ++slot) {
            if (fault != ring_fault::not_initialised)
                mbarrier_init(full + slot, 1);
            mbarrier_init(empty + slot, ring_readers / warp_lanes);
        }
        if (fault != ring_fault::no_init_fence)
            mbarrier_init_fence();
    }
    if (fault != ring_fault::no_init_barrier)
        __syncthreads();
    if (threadIdx.x >= ring_readers)
        copy_ring<fault>(source, slots, full, empty);
    else
        out[threadIdx.x] = read_ring<fault>(slots, full, empty);
}

template <ring_fault fault>
simt_report run_ring(const simt_config& config, bool broken) {
    simt_memory memory;
    std::vector<unsigned char> bytes(ring_stages * ring_bytes);
    for (uint32_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<unsigned char>(i * 7);
    auto* source = static_cast<unsigned char*>(memory.copy_bytes("source", bytes.data(), bytes.size(), false));
    auto* out = memory.allocate_array<uint32_t>("out", ring_readers);
    return simt_launch({1, 1, 1, 160, ring_slots * ring_bytes}, config, memory, [&] {
        if (broken)
            ring<fault>(source, out);
        else
            ring<ring_fault::none>(source, out);
    });
}

// ---- one product ----

enum class product_fault {
    none,
    no_fence,
    no_proxy_fence,
    no_barrier, // between the rows' stores and the product
    no_commit,
    no_wait,
    three_warps,
    other_rows, // in one warp
    outside,
    rows_changed // before the wait
};

constexpr uint32_t product_rows = 8;

template <product_fault fault>
SIMT_KERNEL(128)
one_wgmma(const uint16_t* a, const uint16_t* b, float* out, matrix_swizzle swizzle, uint32_t steps) {
    SIMT_SHARED_DYNAMIC(unsigned char, dynamic);
    // Atoms of a swizzle begin at multiples of 1,024 bytes.
    const uint32_t begin = (shared_address(dynamic) + 1023) / 1024 * 1024;
    unsigned char* rows = dynamic + (begin - shared_address(dynamic));
    const matrix_place place{begin, 128, 8 * swizzle_row_bytes(swizzle), swizzle};
    for (uint32_t index = threadIdx.x; index < product_rows * 2; index += 128) {
        const uint32_t at = matrix_piece_address(place, index / 2, index % 2) - begin;
        store_vector(rows + at, load_vector<uint4>(b + index * 8));
    }
    if (fault != product_fault::no_proxy_fence)
        fence_proxy_async();
    if (fault != product_fault::no_barrier)
        __syncthreads();
    uint32_t registers[4] = {};
    for (uint32_t element = 0; element < 8; ++element) {
        const tile_place at = wgmma_a_place(lane_of_thread(), element);
        registers[element / 2] |= uint32_t{a[(warp_of_thread() * 16 + at.row) * 16 + at.column]} << element % 2 * 16;
    }
    float d[product_rows / 2] = {};
    if (fault == product_fault::three_warps && warp_of_thread() == 3)
        return;
    matrix_place used = place;
    if (fault == product_fault::outside || (fault == product_fault::other_rows && warp_of_thread() == 2))
        used.start += fault == product_fault::outside ? 64 * 1024 : 16;
    if (fault != product_fault::no_fence)
        wgmma_fence();
    for (uint32_t step = 0; step < steps; ++step)
        wgmma_bf16<product_rows>(d, registers, encode_matrix(used), step > 0);
    if (fault != product_fault::no_commit)
        wgmma_commit();
    if (fault == product_fault::rows_changed && threadIdx.x == 40)
        store_vector(rows, uint4{0, 0, 0, 0});
    if (fault != product_fault::no_wait)
        wgmma_wait<0>();
    wgmma_settle(d);
    for (uint32_t element = 0; element < product_rows / 2; ++element) {
        const tile_place at = wgmma_d_place(lane_of_thread(), element);
        out[(warp_of_thread() * 16 + at.row) * product_rows + at.column] = d[element];
    }
}

template <product_fault fault>
simt_report run_product(const simt_config& config, bool broken) {
    simt_memory memory;
    const auto* a = memory.copy_of("a", std::vector<uint16_t>(64 * 16, 0x3F80));
    const auto* b = memory.copy_of("b", std::vector<uint16_t>(product_rows * 16, 0x3F80));
    auto* out = memory.allocate_array<float>("out", 64 * product_rows);
    return simt_launch({1, 1, 1, 128, 4096}, config, memory, [&] {
        if (broken)
            one_wgmma<fault>(a, b, out, matrix_swizzle::none, 2);
        else
            one_wgmma<product_fault::none>(a, b, out, matrix_swizzle::none, 2);
    });
}

} // namespace

const std::vector<planted_fault>& planted_sm90_faults() {
    static const std::vector<planted_fault> faults{
        {"no wait for copies", simt_fault::copy_in_flight, false, run_ring<ring_fault::no_wait>},
        {"one warp waits for all", simt_fault::race, false, run_ring<ring_fault::one_warp_waits>},
        {"a place given back before it is read", simt_fault::race, false, run_ring<ring_fault::early_release>},
        {"a place never given back", simt_fault::starved_barrier, false, run_ring<ring_fault::no_release>},
        {"a place given back for lanes that still read", simt_fault::race, false, run_ring<ring_fault::lane_release>},
        {"copies that do not wait for readers", simt_fault::race, false, run_ring<ring_fault::no_empty_wait>},
        {"the other parity", simt_fault::copy_in_flight, false, run_ring<ring_fault::wrong_parity>},
        {"fewer bytes expected than copied", simt_fault::misused_barrier, false, run_ring<ring_fault::few_bytes>},
        {"more bytes expected than copied", simt_fault::starved_barrier, false, run_ring<ring_fault::many_bytes>},
        {"no bytes expected", simt_fault::copy_in_flight, false, run_ring<ring_fault::no_expectation>},
        {"a barrier without its fence", simt_fault::misused_barrier, false, run_ring<ring_fault::no_init_fence>},
        {"a barrier used before all know of it", simt_fault::misused_barrier, false,
         run_ring<ring_fault::no_init_barrier>},
        {"a barrier not initialised", simt_fault::misused_barrier, false, run_ring<ring_fault::not_initialised>},
        {"an arrival too many", simt_fault::race, false, run_ring<ring_fault::too_many_arrivals>},
        {"a bulk copy of an odd size", simt_fault::misused_barrier, false, run_ring<ring_fault::odd_size>},
        {"a bulk copy from a misaligned address", simt_fault::misaligned, false, run_ring<ring_fault::misaligned>},
        {"a bulk copy from outside", simt_fault::out_of_bounds, false, run_ring<ring_fault::outside>},
        {"a bulk copy whose source changes", simt_fault::copy_in_flight, false, run_ring<ring_fault::source_changed>},
        {"a bulk copy under way at the end", simt_fault::copy_in_flight, false, run_ring<ring_fault::not_waited_for>},
        {"wgmma without fence", simt_fault::misused_barrier, false, run_product<product_fault::no_fence>},
        {"stores not fenced for wgmma", simt_fault::unfenced_proxy, false, run_product<product_fault::no_proxy_fence>},
        {"no barrier before wgmma", simt_fault::race, false, run_product<product_fault::no_barrier>},
        {"wgmma that is not committed", simt_fault::misused_barrier, false, run_product<product_fault::no_commit>},
        {"wgmma that is not waited for", simt_fault::misused_barrier, false, run_product<product_fault::no_wait>},
        {"wgmma without one warp", simt_fault::divergent_warp, false, run_product<product_fault::three_warps>},
        {"wgmma with two descriptors", simt_fault::misused_barrier, false, run_product<product_fault::other_rows>},
        {"wgmma outside of shared memory", simt_fault::out_of_bounds, false, run_product<product_fault::outside>},
        {"rows that change under way", simt_fault::race, false, run_product<product_fault::rows_changed>},
    };
    return faults;
}

simt_report run_one_wgmma(const simt_config& config, simt_memory& memory, const uint16_t* a, const uint16_t* b,
                          float* out, matrix_swizzle swizzle, uint32_t steps) {
    return simt_launch({1, 1, 1, 128, 4096}, config, memory,
                       [&] { one_wgmma<product_fault::none>(a, b, out, swizzle, steps); });
}

} // namespace moira
