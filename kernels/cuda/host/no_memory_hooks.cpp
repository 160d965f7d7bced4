// Linked instead of memory_hooks.cpp where the compiler cannot add hooks (with the address sanitizer).
#include "kernels/cuda/host/executor.hpp"

namespace moira {

bool simt_has_hooks() {
    return false;
}

} // namespace moira
