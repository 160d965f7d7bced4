// Choosing tokens from logits, as core/sample does, for the part that is exact on a device: greedy tokens, the best
// `kept` logits of a row in core/sample's order (larger first, then the lower token; NaN never), and its random number.
//
//   sample_first    the best of each part of a row
//   sample_best     the best `kept` of each part of a row, in order
//   sample_finish   tokens with their logits, and the random number
//
// Temperature, nucleus and minimum are double arithmetic on exp() there. CUDA's exp and the C library's differ in the
// last bit, and with it a token now and then: the host finishes from the kept logits instead, with core/sample itself,
// for requests with top_k of at most `kept` and no repetition penalty. A row costs the host 8 bytes per kept logit
// instead of 4 per entry of the vocabulary. Bytes per row on the device: 4 x vocabulary, once.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"
#include "kernels/cuda/device/simt.hpp"
#include "kernels/cuda/smxx/limits.hpp"

namespace moira {

constexpr uint32_t sample_part = 2048; // keys that a block sorts: 16 KiB
constexpr uint32_t sample_kept_max = 256;

// Rising keys are falling logits, then rising tokens; all ones is nobody.
using sample_key = unsigned long long;
constexpr sample_key sample_nobody = ~0ull;

struct sample_candidate {
    int32_t token; // -1: the row has fewer numbers. A row without any has token 0 first, as core/sample answers it.
    float logit;
};

struct sample_args {
    uint32_t rows;
    uint32_t vocabulary;
    uint32_t kept; // 1: greedy
    const float* logits;
    uint64_t logits_stride;
    const uint64_t* seeds; // [rows]
    const int64_t* positions;
    void* workspace;              // sample_workspace_bytes
    sample_candidate* candidates; // [rows, kept], best first
    double* uniforms;             // [rows], in [0, 1)
};

struct sample_part_args {
    uint32_t count; // of a row's logits or keys
    uint32_t kept;
    const float* logits; // [rows][logits_stride], or
    uint64_t logits_stride;
    const sample_key* keys; // [rows][count]
    sample_key* best;       // [rows][parts][kept]
};

SIMT_FN sample_key sample_key_of(float logit, uint32_t token) {
    if (logit != logit)
        return sample_nobody;
    const uint32_t bits = logit == 0.0f ? 0 : bits_of(logit); // both zeros are equal
    const uint32_t rising = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return sample_key{~rising} << 32 | token;
}

template <bool of_logits>
SIMT_FN sample_key sample_key_at(const sample_part_args& args, uint32_t index) {
    if (index >= args.count)
        return sample_nobody;
    if constexpr (of_logits)
        return sample_key_of(args.logits[blockIdx.y * args.logits_stride + index], index);
    else
        return args.keys[uint64_t{blockIdx.y} * args.count + index];
}

// Grid: parts, rows.
template <bool of_logits>
SIMT_KERNEL(row_threads)
sample_first(sample_part_args args) {
    SIMT_SHARED(sample_key, warp_best, row_threads / warp_lanes);
    sample_key best = sample_nobody;
    for (uint32_t i = threadIdx.x; i < sample_part; i += row_threads) {
        const sample_key key = sample_key_at<of_logits>(args, blockIdx.x * sample_part + i);
        best = key < best ? key : best;
    }
    SIMT_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
        const uint32_t high = __shfl_xor_sync(warp_full, uint32_t(best >> 32), distance);
        const sample_key other = sample_key{high} << 32 | __shfl_xor_sync(warp_full, uint32_t(best), distance);
        best = other < best ? other : best;
    }
    if (lane_of_thread() == 0)
        warp_best[warp_of_thread()] = best;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (uint32_t warp = 1; warp < row_threads / warp_lanes; ++warp)
        best = warp_best[warp] < best ? warp_best[warp] : best;
    args.best[uint64_t{blockIdx.y} * gridDim.x + blockIdx.x] = best;
}

// A bitonic network over sample_part keys. Every thread of the block; ends with a barrier.
SIMT_FN void sample_sort(sample_key* keys) {
    __syncthreads();
    for (uint32_t length = 2; length <= sample_part; length *= 2)
        for (uint32_t distance = length / 2; distance > 0; distance /= 2) {
            for (uint32_t pair = threadIdx.x; pair < sample_part / 2; pair += row_threads) {
                const uint32_t low = pair / distance * distance * 2 + pair % distance;
                const sample_key a = keys[low];
                const sample_key b = keys[low + distance];
                const bool rising = (low & length) == 0;
                keys[low] = (a < b) == rising ? a : b;
                keys[low + distance] = (a < b) == rising ? b : a;
            }
            __syncthreads();
        }
}

// Grid: parts, rows.
template <bool of_logits>
SIMT_KERNEL(row_threads)
sample_best(sample_part_args args) {
    SIMT_SHARED(sample_key, keys, sample_part);
    for (uint32_t i = threadIdx.x; i < sample_part; i += row_threads)
        keys[i] = sample_key_at<of_logits>(args, blockIdx.x * sample_part + i);
    sample_sort(keys);
    sample_key* best = args.best + (uint64_t{blockIdx.y} * gridDim.x + blockIdx.x) * args.kept;
    for (uint32_t i = threadIdx.x; i < args.kept; i += row_threads)
        best[i] = keys[i];
}

// Philox 4x32-10 (Salmon et al. 2011) keyed by the seed, counted by the position; 53 bits as a double.
SIMT_FN double sample_uniform(uint64_t seed, uint64_t position) {
    uint32_t counter[4] = {uint32_t(position), uint32_t(position >> 32), 0, 0};
    uint32_t key[2] = {uint32_t(seed), uint32_t(seed >> 32)};
    for (int round = 0; round < 10; ++round) {
        const uint64_t first = uint64_t{0xD2511F53u} * counter[0];
        const uint64_t second = uint64_t{0xCD9E8D57u} * counter[2];
        counter[0] = uint32_t(second >> 32) ^ counter[1] ^ key[0];
        counter[1] = uint32_t(second);
        counter[2] = uint32_t(first >> 32) ^ counter[3] ^ key[1];
        counter[3] = uint32_t(first);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const uint64_t word = uint64_t{counter[0]} << 32 | counter[1];
    return double(word >> 11) * 0x1.0p-53;
}

// Grid: rows. `keys`: [rows][kept].
SIMT_KERNEL(row_threads) sample_finish(sample_args args, const sample_key* keys) {
    const uint64_t row = blockIdx.x;
    if (threadIdx.x == 0)
        args.uniforms[row] = sample_uniform(args.seeds[row], uint64_t(args.positions[row]));
    if (threadIdx.x >= args.kept)
        return;
    const uint64_t at = row * args.kept + threadIdx.x;
    const sample_key key = keys[at];
    const int32_t nobody = threadIdx.x == 0 ? 0 : -1;
    const int32_t token = key == sample_nobody ? nobody : int32_t(uint32_t(key));
    args.candidates[at] = {token, args.logits[row * args.logits_stride + (token < 0 ? 0 : uint32_t(token))]};
}

inline uint32_t sample_parts(uint64_t count) {
    return uint32_t((count + sample_part - 1) / sample_part);
}

// The keys of the first level and of the second; later ones are fewer.
inline uint64_t sample_level_keys(const sample_args& args, uint32_t level) {
    const uint64_t first = uint64_t{sample_parts(args.vocabulary)} * args.kept;
    return level == 0 ? first : uint64_t{sample_parts(first)} * args.kept;
}
inline uint64_t sample_workspace_bytes(const sample_args& args) {
    return args.rows * (sample_level_keys(args, 0) + sample_level_keys(args, 1)) * sizeof(sample_key);
}

// Launches through `launcher`, whose members know how: first<of_logits>(shape, args), best<of_logits>(shape, args) and
// finish(shape, args, keys).
template <class Launcher>
void run_sample(const sample_args& args, Launcher& launcher) {
    if (args.rows == 0)
        return;
    auto* keys = static_cast<sample_key*>(args.workspace);
    sample_key* other = keys + args.rows * sample_level_keys(args, 0);
    sample_part_args part{args.vocabulary, args.kept, args.logits, args.logits_stride, nullptr, keys};
    for (bool of_logits = true; of_logits || part.count > args.kept; of_logits = false) {
        const launch_shape shape{sample_parts(part.count), args.rows, 1, row_threads, 0};
        if (args.kept == 1)
            of_logits ? launcher.template first<true>(shape, part) : launcher.template first<false>(shape, part);
        else
            of_logits ? launcher.template best<true>(shape, part) : launcher.template best<false>(shape, part);
        part.count = shape.grid_x * args.kept;
        part.keys = part.best;
        part.best = part.best == keys ? other : keys;
    }
    launcher.finish(launch_shape{args.rows, 1, 1, row_threads, 0}, args, part.keys);
}

} // namespace moira
