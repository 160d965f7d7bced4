// gemm by cuBLASLt, when MOIRA_COMPUTE_LIBRARY asks for it: BF16 weights, row-major as the checkpoint has them,
// products of prompts. One algorithm per (n, k, bias), chosen once, without split-K, for every number of rows; rows are
// padded to whole blocks, so that a row's bits have no reason to depend on how many run with it. Whether they do not is
// proven on a device alone (tools/gpu_check sweeps over rows): until a pair of chip and release has been, op_query does
// not promise it, and the own gemm stays what everybody gets.
#pragma once

#include "plugins/cuda_runtime/cublas_calls.hpp"
#include "plugins/moira_plugin.h"

#include <deque>
#include <mutex>

namespace moira {

// Rows of one block: what the algorithm always gets a multiple of. The tiles of cuBLASLt's kernels are 64 to 256 rows.
inline constexpr uint32_t library_block_rows = 128;
// NVIDIA's recommendation for Hopper (cuBLAS documentation, "workspace"); algorithms that want more are not taken.
inline constexpr uint64_t library_workspace_bytes = 32 * 1024 * 1024;
// The last block goes through memory of its own: 32 MiB of float32 at most.
inline constexpr uint32_t library_columns_max = 65536;

// What one prepared gemm multiplies with. Lives as long as its device.
struct library_product {
    uint32_t n, k;
    bool has_bias;
    cublas_algorithm algorithm;
};

// One per device: the library's handle and the products that were asked for.
struct library_gemm {
    std::mutex mutex;
    const cublas_calls* calls = nullptr;
    void* handle = nullptr;
    std::deque<library_product> products; // addresses stay
};

// The library's limits for shapes and types, in words, or null.
const char* library_gemm_limit(const moira_gemm_desc& desc);
// For every launch of the op.
uint64_t library_gemm_workspace(const moira_gemm_desc& desc);
// Whether the rows of this release on this chip have been proven on a device not to depend on each other.
bool library_rows_proven(uint32_t compute_major, uint64_t version);

// The library's product for the descriptor; the first call of a device opens the library, the first call of a shape
// chooses its algorithm. UNSUPPORTED with the reason where that fails.
moira_status find_library_product(moira_device& device, const moira_gemm_desc& desc, const library_product** product);
// A cudaError_t.
int launch_library_gemm(moira_stream& stream, const library_product& product, const moira_gemm_desc& desc,
                        const moira_gemm_args& args);
// Gives the handle back; with the device.
void close_library(library_gemm& library);

} // namespace moira
