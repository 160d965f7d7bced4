// cuBLASLt as the plugins use it: a table that is filled at the first use, because the library is half a gigabyte and
// linking it would cost every start 70 to 420 ms and 152 MB. Names, numbers and layouts are those of
// cublasLt.h, release 13; cublas_numbers_check.cpp holds them against the header where a toolkit is. Codes are
// cublasStatus_t, 0 is success.
#pragma once

#include <cstdint>

namespace moira {

struct cublas_algorithm { // cublasLtMatmulAlgo_t
    uint64_t data[8];
};
struct cublas_candidate { // cublasLtMatmulHeuristicResult_t
    cublas_algorithm algorithm;
    uint64_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

namespace cublas {
inline constexpr int type_f32 = 0;               // CUDA_R_32F
inline constexpr int type_bf16 = 14;             // CUDA_R_16BF
inline constexpr int compute_f32 = 68;           // CUBLAS_COMPUTE_32F
inline constexpr int transposed = 1;             // CUBLAS_OP_T
inline constexpr int product_transpose_a = 3;    // CUBLASLT_MATMUL_DESC_TRANSA
inline constexpr int product_epilogue = 7;       // CUBLASLT_MATMUL_DESC_EPILOGUE
inline constexpr int product_bias_address = 8;   // CUBLASLT_MATMUL_DESC_BIAS_POINTER
inline constexpr int epilogue_bias = 4;          // CUBLASLT_EPILOGUE_BIAS
inline constexpr int preference_workspace = 1;   // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
inline constexpr int preference_reduction = 3;   // CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK
inline constexpr int preference_alignment_a = 5; // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES; B, C, D follow
inline constexpr int reduction_none = 0;         // CUBLASLT_REDUCTION_SCHEME_NONE
inline constexpr int algorithm_split_k = 2;      // CUBLASLT_ALGO_CONFIG_SPLITK_NUM
inline constexpr int algorithm_reduction = 3;    // CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME
inline constexpr uint64_t version_major = 13;    // of libcublasLt.so.13
} // namespace cublas

struct cublas_calls {
    uint64_t (*version)(); // 130100: 13.1.0
    const char* (*status_text)(int code);
    int (*create)(void** handle);
    int (*destroy)(void* handle);
    int (*product_create)(void** product, int compute_type, int scale_type);
    int (*product_destroy)(void* product);
    int (*product_set)(void* product, int attribute, const void* value, uint64_t bytes);
    int (*layout_create)(void** layout, int type, uint64_t rows, uint64_t columns, int64_t stride); // column-major
    int (*layout_destroy)(void* layout);
    int (*preference_create)(void** preference);
    int (*preference_destroy)(void* preference);
    int (*preference_set)(void* preference, int attribute, const void* value, uint64_t bytes);
    int (*find)(void* handle, void* product, void* a, void* b, void* c, void* d, void* preference, int wanted,
                cublas_candidate* found, int* count);
    int (*check)(void* handle, void* product, void* a, void* b, void* c, void* d, const cublas_algorithm* algorithm,
                 cublas_candidate* result);
    int (*algorithm_get)(const cublas_algorithm* algorithm, int attribute, void* value, uint64_t bytes,
                         uint64_t* written);
    int (*multiply)(void* handle, void* product, const void* alpha, const void* a, void* a_layout, const void* b,
                    void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
                    const cublas_algorithm* algorithm, void* workspace, uint64_t workspace_bytes, void* stream);
};

// Opens the library, once in a process; it stays. Null when it is not there, lacks a function, or is of another
// release: `reason` then says so. Thread-safe.
const cublas_calls* load_cublas(char* reason, uint64_t reason_bytes);

// The same with a file that the caller names, tried anew each time.
bool open_cublas(const char* file, cublas_calls& calls, char* reason, uint64_t reason_bytes);

} // namespace moira
