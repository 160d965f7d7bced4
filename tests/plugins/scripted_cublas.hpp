// A cuBLASLt for tests: multiplies on the host when the scripted CUDA's stream runs, and offers the algorithms of a
// script.
#pragma once

#include "plugins/cuda_runtime/cublas_calls.hpp"

#include <cstdint>
#include <vector>

namespace moira {

struct scripted_algorithm {
    std::int32_t split_k = 1;
    std::uint32_t reduction = 0;
    std::uint64_t workspace_bytes = 0;
    int state = 0;
    int check_code = 0; ///< what checking it for another number of rows returns
};

struct scripted_multiplication {
    std::uint64_t rows, algorithm, workspace_bytes;
    const void* workspace;
};

struct scripted_library {
    std::vector<scripted_algorithm> algorithms{1};
    int create_code = 0;
    int find_code = 0;
    int multiply_code = 0;
    int searches = 0;
    int handles = 0; ///< alive
    int objects = 0; ///< products, layouts and preferences alive
    std::uint64_t version = 130100;
    std::vector<scripted_multiplication> multiplications;
};

scripted_library& scripted_cublas();
const cublas_calls& scripted_cublas_calls();

} // namespace moira
