// Finds cuBLASLt when somebody asks for it. No CUDA header is needed: everything comes through dlsym.
#include "plugins/cuda_runtime/cublas_calls.hpp"

#include <cstdio>
#include <dlfcn.h>
#include <mutex>

namespace moira {

namespace {

// As the loader finds it, then where toolkits lie that nobody told the loader about.
constexpr const char* files[] = {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13",
                                 "/usr/local/cuda-13.0/lib64/libcublasLt.so.13"};

template <class Function>
bool bind(void* library, const char* name, Function& function, const char*& missing) {
    void* const address = dlsym(library, name);
    function = reinterpret_cast<Function>(address);
    if (!address && !missing)
        missing = name;
    return address != nullptr;
}

// The name of the first function that is missing, or null.
const char* bind_all(void* library, cublas_calls& calls) {
    const char* missing = nullptr;
    bind(library, "cublasLtGetVersion", calls.version, missing);
    bind(library, "cublasLtGetStatusString", calls.status_text, missing);
    bind(library, "cublasLtCreate", calls.create, missing);
    bind(library, "cublasLtDestroy", calls.destroy, missing);
    bind(library, "cublasLtMatmulDescCreate", calls.product_create, missing);
    bind(library, "cublasLtMatmulDescDestroy", calls.product_destroy, missing);
    bind(library, "cublasLtMatmulDescSetAttribute", calls.product_set, missing);
    bind(library, "cublasLtMatrixLayoutCreate", calls.layout_create, missing);
    bind(library, "cublasLtMatrixLayoutDestroy", calls.layout_destroy, missing);
    bind(library, "cublasLtMatmulPreferenceCreate", calls.preference_create, missing);
    bind(library, "cublasLtMatmulPreferenceDestroy", calls.preference_destroy, missing);
    bind(library, "cublasLtMatmulPreferenceSetAttribute", calls.preference_set, missing);
    bind(library, "cublasLtMatmulAlgoGetHeuristic", calls.find, missing);
    bind(library, "cublasLtMatmulAlgoCheck", calls.check, missing);
    bind(library, "cublasLtMatmulAlgoConfigGetAttribute", calls.algorithm_get, missing);
    bind(library, "cublasLtMatmul", calls.multiply, missing);
    return missing;
}

} // namespace

bool open_cublas(const char* file, cublas_calls& calls, char* reason, uint64_t reason_bytes) {
    void* const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        std::snprintf(reason, reason_bytes, "cuBLASLt was not found: %.180s", dlerror());
        return false;
    }
    if (const char* missing = bind_all(library, calls)) {
        std::snprintf(reason, reason_bytes, "%.120s is no cuBLASLt of release 13: it lacks %s", file, missing);
        (void)dlclose(library);
        return false;
    }
    const uint64_t version = calls.version();
    if (version / 10000 != cublas::version_major) {
        std::snprintf(reason, reason_bytes, "%.120s is cuBLASLt %llu, release %llu is needed", file,
                      static_cast<unsigned long long>(version), static_cast<unsigned long long>(cublas::version_major));
        (void)dlclose(library);
        return false;
    }
    return true;
}

const cublas_calls* load_cublas(char* reason, uint64_t reason_bytes) {
    // The library belongs to the process, not to a device; after the first success the table never changes.
    static std::mutex mutex;
    static cublas_calls calls;
    static bool loaded = false;
    const std::scoped_lock lock(mutex);
    for (const char* file : files)
        if (!loaded)
            loaded = open_cublas(file, calls, reason, reason_bytes);
    return loaded ? &calls : nullptr;
}

} // namespace moira
