// The CUDA runtime as the plugins use it: one table, so that everything around the kernels is tested without a GPU and
// without a toolkit, against a table that a test supplies. Codes are cudaError_t, 0 is success.
#pragma once

#include <cstdint>

namespace moira {

struct cuda_description {
    char name[64];
    uint32_t compute_major;
    uint32_t compute_minor;
    uint32_t multiprocessors;
    uint32_t pools_supported; // stream-ordered allocation
    uint64_t memory_bytes;
};

struct cublas_calls;

struct cuda_calls {
    const char* (*error_text)(int code);
    int (*device_count)(int* count);
    int (*describe)(int ordinal, cuda_description* description);
    int (*select)(int ordinal); // for the calling thread
    int (*memory_info)(uint64_t* bytes_free, uint64_t* bytes_total);

    int (*pool_create)(int ordinal, void** pool); // keeps what is freed for the next allocation
    int (*pool_destroy)(void* pool);
    int (*allocate)(void** address, uint64_t bytes, void* pool, void* stream); // pool null: not in stream order
    int (*release)(void* address, void* pool, void* stream);
    int (*allocate_host)(void** address, uint64_t bytes); // page-locked
    int (*release_host)(void* address);

    int (*stream_create)(void** stream);
    int (*stream_destroy)(void* stream);
    int (*stream_synchronize)(void* stream);
    int (*copy)(void* to, const void* from, uint64_t bytes, void* stream); // the direction follows from the addresses
    int (*fill)(void* address, int byte, uint64_t bytes, void* stream);

    int (*event_create)(void** event);
    int (*event_destroy)(void* event);
    int (*event_record)(void* event, void* stream);
    int (*event_wait)(void* stream, void* event);
    int (*event_query)(void* event);
    int (*event_synchronize)(void* event);

    int (*capture_begin)(void* stream);
    int (*capture_end)(void* stream, void** graph); // an executable graph
    int (*graph_launch)(void* graph, void* stream);
    int (*graph_destroy)(void* graph);

    // Rows of `row_bytes` bytes, `to_stride` and `from_stride` bytes apart.
    int (*copy_rows)(void* to, uint64_t to_stride, const void* from, uint64_t from_stride, uint64_t row_bytes,
                     uint64_t rows, void* stream);
    // cuBLASLt, see cublas_calls.hpp; null with a reason.
    const cublas_calls* (*load_library)(char* reason, uint64_t reason_bytes);
};

// The real one, linked against the static CUDA runtime.
const cuda_calls& cuda_runtime_calls();

enum class cuda_outcome { ok, not_ready, out_of_memory, no_device, refused, lost };

// What a cudaError_t means for the device. "lost": nothing on it works again in this process.
cuda_outcome cuda_outcome_of(int code);

} // namespace moira
