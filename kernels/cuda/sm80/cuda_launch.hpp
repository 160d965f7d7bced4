// Launches a kernel on a stream. Included by .cu files only.
#pragma once

#include "kernels/cuda/device/launch_shape.hpp"

#include <cuda_runtime.h>

namespace moira {

// Above 48 KiB a kernel must be allowed its shared memory first: a cheap call into the driver, also while a graph is
// captured.
template <class Args>
cudaError_t launch_kernel(void (*kernel)(Args), const launch_shape& shape, const Args& args, void* stream) {
    if (shape.shared_bytes > 48 * 1024) {
        const cudaError_t status =
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shape.shared_bytes));
        if (status != cudaSuccess)
            return status;
    }
    kernel<<<dim3(shape.grid_x, shape.grid_y, shape.grid_z), shape.threads, shape.shared_bytes,
             static_cast<cudaStream_t>(stream)>>>(args);
    return cudaGetLastError();
}

} // namespace moira
