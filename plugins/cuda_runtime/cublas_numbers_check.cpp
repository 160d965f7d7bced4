// Holds what cublas_calls.hpp states against cuBLASLt's own header. Compiled where a toolkit is; nothing runs.
#include "plugins/cuda_runtime/cublas_calls.hpp"

#include <cstddef>
#include <cublasLt.h>

namespace moira {

static_assert(cublas::type_f32 == CUDA_R_32F && cublas::type_bf16 == CUDA_R_16BF);
static_assert(cublas::compute_f32 == CUBLAS_COMPUTE_32F && cublas::transposed == CUBLAS_OP_T);
static_assert(cublas::product_transpose_a == CUBLASLT_MATMUL_DESC_TRANSA);
static_assert(cublas::product_epilogue == CUBLASLT_MATMUL_DESC_EPILOGUE);
static_assert(cublas::product_bias_address == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
static_assert(cublas::epilogue_bias == CUBLASLT_EPILOGUE_BIAS);
static_assert(cublas::preference_workspace == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(cublas::preference_reduction == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(cublas::preference_alignment_a == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(cublas::preference_alignment_a + 3 == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(cublas::reduction_none == CUBLASLT_REDUCTION_SCHEME_NONE);
static_assert(cublas::algorithm_split_k == CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
static_assert(cublas::algorithm_reduction == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
static_assert(sizeof(cublas_algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(cublas_candidate) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(cublas_candidate, workspace_bytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(cublas_candidate, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(sizeof(cublasStatus_t) == sizeof(int) && sizeof(cudaDataType_t) == sizeof(int) &&
              sizeof(cublasComputeType_t) == sizeof(int) && sizeof(size_t) == sizeof(uint64_t));

} // namespace moira
