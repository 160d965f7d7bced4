#include "tests/cuda/planted_faults.hpp"

#include "kernels/cuda/device/fragment_maps.hpp"
#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/device/simt.hpp"

#include <stdexcept>

namespace moira {

namespace {

constexpr uint32_t threads = 64;

// ---- races ----

SIMT_KERNEL(64) read_after_write(float* out, bool broken) {
    SIMT_SHARED(float, values, threads);
    values[threadIdx.x] = float(threadIdx.x);
    if (!broken)
        __syncthreads();
    out[threadIdx.x] = values[threads - 1 - threadIdx.x];
}

SIMT_KERNEL(64) write_after_read(float* out, bool broken) {
    SIMT_SHARED(float, values, threads);
    values[threadIdx.x] = float(threadIdx.x);
    __syncthreads();
    const float other = values[threads - 1 - threadIdx.x];
    if (!broken)
        __syncthreads();
    values[threadIdx.x] = other + 1.0f;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x];
}

SIMT_KERNEL(64) within_a_warp(float* out, bool broken) {
    SIMT_SHARED(float, values, threads);
    values[threadIdx.x] = float(threadIdx.x);
    if (broken)
        out[threadIdx.x] = __shfl_xor_sync(warp_full, 1.0f, 1); // a shuffle orders no memory
    else
        __syncwarp();
    out[threadIdx.x] = values[threadIdx.x ^ 1u];
}

SIMT_KERNEL(64) across_warps(float* out, bool broken) {
    SIMT_SHARED(float, values, threads);
    values[threadIdx.x] = float(threadIdx.x);
    __syncwarp(); // orders the own warp only
    out[threadIdx.x] = values[threadIdx.x ^ (broken ? 32u : 1u)];
}

SIMT_KERNEL(64) across_blocks(float* out, bool broken) {
    out[threadIdx.x + (broken ? 0 : blockIdx.x * threads)] = 1.0f;
}

SIMT_KERNEL(64) counting(uint32_t* out, bool broken) {
    if (broken)
        out[0] += 1;
    else
        atomicAdd(&out[0], 1u);
}

SIMT_KERNEL(64) unwritten(float* out, bool broken) {
    SIMT_SHARED(float, values, threads + 4);
    values[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x + (broken ? 1 : 0)];
}

// ---- bounds ----

SIMT_KERNEL(64) past_the_end(float* out, bool broken) {
    out[threadIdx.x + (broken && threadIdx.x == threads - 1 ? 1 : 0)] = 1.0f;
}

SIMT_KERNEL(64) past_shared(float* out, bool broken) {
    SIMT_SHARED(float, values, threads);
    values[threadIdx.x + (broken ? 1 : 0)] = 1.0f;
    out[threadIdx.x] = 1.0f;
}

SIMT_KERNEL(64) constant_written(float* out, float* constant, bool broken) {
    (broken ? constant : out)[threadIdx.x] = 1.0f;
}

SIMT_KERNEL(64) stranger(float* out, const float* outside, bool broken) {
    out[threadIdx.x] = broken ? outside[threadIdx.x] : 1.0f;
}

SIMT_KERNEL(64) misaligned_vector(const float* in, float* out, bool broken) {
    store_vector(out + threadIdx.x * 4, load_vector<float4>(in + threadIdx.x * 4 + (broken ? 2 : 0)));
}

SIMT_KERNEL(64) misaligned_shared(float* out, bool broken) {
    SIMT_SHARED(float, values, threads * 4 + 4);
    store_vector(values + threadIdx.x * 4 + (broken ? 1 : 0), float4{1, 2, 3, 4});
    out[threadIdx.x] = 0.0f;
}

SIMT_KERNEL(64) too_much_shared(float* out) {
    SIMT_SHARED_DYNAMIC(float, values);
    values[threadIdx.x] = 1.0f;
    out[threadIdx.x] = values[threadIdx.x];
}

// ---- divergence ----

SIMT_KERNEL(64) skipped_barrier(float* out, bool broken) {
    if (!broken || threadIdx.x < 40)
        __syncthreads();
    out[threadIdx.x] = 1.0f;
}

SIMT_KERNEL(64) two_barriers(float* out, bool broken) {
    if (broken && threadIdx.x < 32) {
        __syncthreads();
        out[threadIdx.x] = 1.0f;
    } else {
        __syncthreads();
        out[threadIdx.x] = 2.0f;
    }
}

SIMT_KERNEL(64) absent_lanes(float* out, bool broken) {
    float value = 1.0f;
    if (!broken || threadIdx.x % 32 < 16)
        value = __shfl_xor_sync(warp_full, value, 1);
    out[threadIdx.x] = value;
}

SIMT_KERNEL(64) masked_source(float* out, bool broken) {
    float value = 1.0f;
    if (threadIdx.x % 32 < 16)
        value = __shfl_sync(0xFFFFu, value, broken ? 20 : 3);
    out[threadIdx.x] = value;
}

SIMT_KERNEL(64) mma_in_half_a_warp(float* out, bool broken) {
    float d[4] = {};
    const uint32_t a[4] = {};
    const uint32_t b[2] = {};
    if (!broken || threadIdx.x % 32 != 7)
        mma_16816_bf16(d, a, b);
    out[threadIdx.x] = d[0];
}

SIMT_KERNEL(64) mixed_operations(float* out, bool broken) {
    uint32_t bits = 0;
    if (broken && threadIdx.x % 2 == 0)
        __syncwarp();
    else
        bits = __ballot_sync(warp_full, threadIdx.x % 3 == 0);
    out[threadIdx.x] = float(bits);
}

// ---- asynchronous copies ----

enum class copy_fault { none, no_wait, late_wait, no_barrier, no_barrier_before, outside, misaligned, source_changed };

// Two stages, as a GEMM's main loop has them.
SIMT_KERNEL(64) copy_loop(float* in, float* out, copy_fault fault) {
    SIMT_SHARED(float, stages, 2 * threads * 4);
    constexpr uint32_t steps = 4;
    float sum = 0.0f;
    const uint32_t own = threadIdx.x * 4;
    const uint32_t skew = fault == copy_fault::misaligned ? 1 : 0;
    const uint32_t reach = fault == copy_fault::outside ? threads * 4 : 0;
    cp_async16(stages + own, in + own + skew);
    cp_async_commit();
    for (uint32_t step = 0; step < steps; ++step) {
        if (step + 1 < steps)
            cp_async16(stages + (step + 1) % 2 * threads * 4 + own, in + (step + 1) * threads * 4 + own + reach);
        cp_async_commit();
        if (fault == copy_fault::late_wait)
            cp_async_wait<2>();
        else if (fault != copy_fault::no_wait)
            cp_async_wait<1>();
        if (fault == copy_fault::source_changed && step + 1 < steps)
            in[(step + 1) * threads * 4 + own] = 7.0f;
        if (fault != copy_fault::no_barrier)
            __syncthreads();
        sum += stages[step % 2 * threads * 4 + (own ^ 128u)];
        if (fault != copy_fault::no_barrier_before)
            __syncthreads();
    }
    out[threadIdx.x] = sum;
}

template <copy_fault fault>
simt_report run_copy_loop(const simt_config& config, bool broken) {
    simt_memory memory;
    float* in = memory.copy_of("in", std::vector<float>(threads * 4 * 4, 1.0f), false);
    float* out = memory.allocate_array<float>("out", threads);
    simt_report report = simt_launch({1, 1, 1, threads, 0}, config, memory,
                                     [&] { copy_loop(in, out, broken ? fault : copy_fault::none); });
    if (!broken && out[0] != 4.0f)
        report.findings.push_back({simt_fault::exception, "the copies did not bring the data"});
    return report;
}

// ---- the rest ----

SIMT_KERNEL(64) waits_for_others(uint32_t* out, bool broken) {
    const volatile uint32_t* flag = out;
    if (threadIdx.x == 0) {
        while (broken && *flag != 1) {
        }
    }
    out[threadIdx.x + 1] = 1;
}

SIMT_KERNEL(64) switches_for_ever(uint32_t* out, bool broken) {
    do
        __syncthreads();
    while (broken);
    out[threadIdx.x] = 1;
}

template <void (*kernel)(float*, bool)>
simt_report run_floats(const simt_config& config, bool broken) {
    simt_memory memory;
    float* out = memory.allocate_array<float>("out", threads);
    return simt_launch({1, 1, 1, threads, 0}, config, memory, [&] { kernel(out, broken); });
}

template <void (*kernel)(uint32_t*, bool)>
simt_report run_words(const simt_config& config, bool broken) {
    simt_memory memory;
    uint32_t* out = memory.copy_of("out", std::vector<uint32_t>(threads + 1, 0u), false);
    return simt_launch({1, 1, 1, threads, 0}, config, memory, [&] { kernel(out, broken); });
}

simt_report run_blocks(const simt_config& config, bool broken) {
    simt_memory memory;
    float* out = memory.allocate_array<float>("out", threads * 3);
    return simt_launch({3, 1, 1, threads, 0}, config, memory, [&] { across_blocks(out, broken); });
}

simt_report run_constant(const simt_config& config, bool broken) {
    simt_memory memory;
    float* out = memory.allocate_array<float>("out", threads);
    float* constant = memory.copy_of("constant", std::vector<float>(threads, 1.0f));
    return simt_launch({1, 1, 1, threads, 0}, config, memory, [&] { constant_written(out, constant, broken); });
}

simt_report run_stranger(const simt_config& config, bool broken) {
    simt_memory memory;
    float* out = memory.allocate_array<float>("out", threads);
    const std::vector<float> outside(100'000, 1.0f); // far from any buffer
    return simt_launch({1, 1, 1, threads, 0}, config, memory, [&] { stranger(out, outside.data() + 50'000, broken); });
}

simt_report run_misaligned(const simt_config& config, bool broken) {
    simt_memory memory;
    float* in = memory.copy_of("in", std::vector<float>(threads * 4 + 4, 1.0f));
    float* out = memory.allocate_array<float>("out", threads * 4);
    return simt_launch({1, 1, 1, threads, 0}, config, memory, [&] { misaligned_vector(in, out, broken); });
}

simt_report run_too_much(const simt_config& config, bool broken) {
    simt_memory memory;
    float* out = memory.allocate_array<float>("out", threads);
    return simt_launch({1, 1, 1, threads, broken ? 164u * 1024 : 1024u}, config, memory, [&] { too_much_shared(out); });
}

simt_report run_spin(const simt_config& config, bool broken) {
    simt_config capped = config;
    capped.accesses_max = 10'000;
    return run_words<waits_for_others>(capped, broken);
}

simt_report run_switches(const simt_config& config, bool broken) {
    simt_config capped = config;
    capped.switches_max = 10'000;
    return run_words<switches_for_ever>(capped, broken);
}

simt_report run_exception(const simt_config& config, bool broken) {
    simt_memory memory;
    return simt_launch({1, 1, 1, threads, 0}, config, memory, [&] {
        if (broken && threadIdx.x == 5)
            throw std::runtime_error("planted");
    });
}

// ---- matrix instructions ----

SIMT_KERNEL(32) tile_read(uint32_t* out, bool swizzled) {
    SIMT_SHARED(uint16_t, tile, 32 * 64); // rows of 128 bytes: all in the same banks
    for (uint32_t i = threadIdx.x; i < 32 * 64; i += 32)
        tile[i] = 0;
    __syncwarp();
    const uint32_t row = threadIdx.x;
    uint32_t registers[4];
    ldmatrix_x4(registers, tile + row * 64 + (swizzled ? row % 8 : 0) * 8);
    out[threadIdx.x] = registers[0];
}

SIMT_KERNEL(32) one_mma(const uint16_t* a, const uint16_t* b, float* out) {
    const uint32_t lane = lane_of_thread();
    uint32_t a_registers[4] = {};
    uint32_t b_registers[2] = {};
    for (uint32_t element = 0; element < 8; ++element) {
        const tile_place place = mma_a_place(lane, element);
        a_registers[element / 2] |= uint32_t{a[place.row * 16 + place.column]} << element % 2 * 16;
    }
    for (uint32_t element = 0; element < 4; ++element) {
        const tile_place place = mma_b_place(lane, element);
        b_registers[element / 2] |= uint32_t{b[place.row * 8 + place.column]} << element % 2 * 16;
    }
    float d[4] = {};
    mma_16816_bf16(d, a_registers, b_registers);
    for (uint32_t element = 0; element < 4; ++element) {
        const tile_place place = mma_c_place(lane, element);
        out[place.row * 8 + place.column] = d[element];
    }
}

SIMT_KERNEL(32) one_ldmatrix(const uint16_t* matrices, uint32_t* out, bool transposed) {
    SIMT_SHARED(uint16_t, tile, 4 * 64);
    for (uint32_t i = threadIdx.x; i < 4 * 64; i += 32)
        tile[i] = matrices[i];
    __syncwarp();
    uint32_t registers[4];
    if (transposed)
        ldmatrix_x4_trans(registers, tile + threadIdx.x * 8);
    else
        ldmatrix_x4(registers, tile + threadIdx.x * 8);
    for (uint32_t matrix = 0; matrix < 4; ++matrix)
        out[threadIdx.x * 4 + matrix] = registers[matrix];
}

SIMT_KERNEL(1024) sums(const float* in, float* out) {
    SIMT_SHARED(float, warp_sums, 32);
    const float block = block_sum(in[threadIdx.x], warp_sums);
    const float excess = warp_max(in[threadIdx.x]) - in[threadIdx.x | 31u]; // 0 for rising values
    out[threadIdx.x] = block + block_sum(1.0f, warp_sums) * 1000.0f + excess;
}

} // namespace

const std::vector<planted_fault>& planted_faults() {
    static const std::vector<planted_fault> faults{
        {"read after write", simt_fault::race, true, run_floats<read_after_write>},
        {"write after read", simt_fault::race, true, run_floats<write_after_read>},
        {"a shuffle instead of __syncwarp", simt_fault::race, true, run_floats<within_a_warp>},
        {"__syncwarp instead of __syncthreads", simt_fault::race, true, run_floats<across_warps>},
        {"two blocks write one address", simt_fault::race, true, run_blocks},
        {"plain addition instead of atomicAdd", simt_fault::race, true, run_words<counting>},
        {"unwritten shared memory", simt_fault::unwritten_read, true, run_floats<unwritten>},
        {"one past a buffer", simt_fault::out_of_bounds, true, run_floats<past_the_end>},
        {"one past a shared array", simt_fault::out_of_bounds, true, run_floats<past_shared>},
        {"a write to a constant", simt_fault::out_of_bounds, true, run_constant},
        {"memory that was not given", simt_fault::unregistered, true, run_stranger},
        {"a vector at half its alignment", simt_fault::misaligned, false, run_misaligned},
        {"a shared vector at a quarter of its alignment", simt_fault::misaligned, false, run_floats<misaligned_shared>},
        {"too much shared memory", simt_fault::shared_overflow, false, run_too_much},
        {"a barrier that some threads skip", simt_fault::divergent_barrier, false, run_floats<skipped_barrier>},
        {"two barriers for one block", simt_fault::divergent_barrier, false, run_floats<two_barriers>},
        {"a shuffle with absent lanes", simt_fault::divergent_warp, false, run_floats<absent_lanes>},
        {"a shuffle from outside the mask", simt_fault::divergent_warp, false, run_floats<masked_source>},
        {"mma without one lane", simt_fault::divergent_warp, false, run_floats<mma_in_half_a_warp>},
        {"two operations in one warp", simt_fault::divergent_warp, false, run_floats<mixed_operations>},
        {"a copy without wait", simt_fault::copy_in_flight, true, run_copy_loop<copy_fault::no_wait>},
        {"a wait one group too late", simt_fault::copy_in_flight, true, run_copy_loop<copy_fault::late_wait>},
        {"no barrier behind the wait", simt_fault::race, true, run_copy_loop<copy_fault::no_barrier>},
        {"no barrier before the next copy", simt_fault::race, true, run_copy_loop<copy_fault::no_barrier_before>},
        {"a copy from outside", simt_fault::out_of_bounds, false, run_copy_loop<copy_fault::outside>},
        {"a copy from a misaligned address", simt_fault::misaligned, false, run_copy_loop<copy_fault::misaligned>},
        {"a source that changes under way", simt_fault::copy_in_flight, false,
         run_copy_loop<copy_fault::source_changed>},
        {"waiting for a flag", simt_fault::spinning, true, run_spin},
        {"barriers without end", simt_fault::spinning, false, run_switches},
        {"an exception", simt_fault::exception, false, run_exception},
    };
    return faults;
}

simt_report run_tile_read(const simt_config& config, bool swizzled) {
    simt_memory memory;
    uint32_t* out = memory.allocate_array<uint32_t>("out", 32);
    return simt_launch({1, 1, 1, 32, 0}, config, memory, [&] { tile_read(out, swizzled); });
}

simt_report run_one_mma(const simt_config& config, simt_memory& memory, const uint16_t* a, const uint16_t* b,
                        float* out) {
    return simt_launch({1, 1, 1, 32, 0}, config, memory, [&] { one_mma(a, b, out); });
}

simt_report run_one_ldmatrix(const simt_config& config, simt_memory& memory, const uint16_t* matrices, uint32_t* out,
                             bool transposed) {
    return simt_launch({1, 1, 1, 32, 0}, config, memory, [&] { one_ldmatrix(matrices, out, transposed); });
}

simt_report run_sums(const simt_config& config, simt_memory& memory, const float* in, float* out,
                     uint32_t threads_used) {
    return simt_launch({1, 1, 1, threads_used, 0}, config, memory, [&] { sums(in, out); });
}

} // namespace moira
