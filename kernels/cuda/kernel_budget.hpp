// What each kernel may take of a multiprocessor, on every architecture that it is built for. The build's own report
// (ptxas -v) is held against this table: a kernel that needs more, spills, or is missing here fails the test.
#pragma once

#include <cstdint>

namespace moira {

struct kernel_budget {
    const char* kernel;      // its name in the source; every instantiation of a template has the same budget
    uint32_t threads;        // of a block, at most
    uint32_t registers;      // of a thread
    uint32_t static_shared;  // bytes of a block
    uint32_t dynamic_shared; // bytes of a block, at most, as the launch configuration asks
};

// Row kernels: with 32 registers eight blocks of 256 threads fill the 2,048 threads of an SM and its 65,536 registers;
// with 40, six do, which is enough to keep the memory busy.
inline constexpr kernel_budget generic_kernel_budgets[] = {
    {"embedding_rows", 256, 32, 0, 0},
    {"rmsnorm_warps", 128, 40, 0, 0},
    {"rmsnorm_blocks", 256, 40, 128, 0}, // one float per warp, and what ptxas rounds up
    {"rope_rows", 256, 40, 0, 0},
    {"kv_append_rows", 256, 32, 0, 0},
    {"router_topk_rows", 128, 40, 0, 48 * 1024},
    {"combine_rows", 256, 40, 0, 0},
    {"permute_count", 32, 48, 0, 0}, // one warp per block: registers do not limit it
    {"permute_place", 32, 48, 0, 0},
    {"e4m3_quantize", 256, 32, 128, 0},
    {"e4m3_dequantize", 256, 32, 0, 0},
};

} // namespace moira
