// The table of kernels for the architecture that a plugin is built for: one source, compiled once per plugin.
#pragma once

#include "kernels/cuda/cuda_kernels.hpp"

namespace moira {

const cuda_kernels& cuda_sm_kernels();

} // namespace moira
