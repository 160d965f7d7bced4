// The table of cuda_calls.hpp, filled in with the static CUDA runtime. Nothing here runs before a device is opened.
#include "plugins/cuda_runtime/cublas_calls.hpp"
#include "plugins/cuda_runtime/cuda_calls.hpp"

#include <cstdio>
#include <cuda_runtime_api.h>

namespace moira {

namespace {

cudaStream_t stream_of(void* stream) {
    return static_cast<cudaStream_t>(stream);
}
cudaEvent_t event_of(void* event) {
    return static_cast<cudaEvent_t>(event);
}

// The runtime also keeps the last error for whoever asks next; nobody does.
int taken(cudaError_t code) {
    if (code != cudaSuccess)
        (void)cudaGetLastError();
    return code;
}

const char* error_text(int code) {
    return cudaGetErrorString(static_cast<cudaError_t>(code));
}
int device_count(int* count) {
    return taken(cudaGetDeviceCount(count));
}

int describe(int ordinal, cuda_description* description) {
    cudaDeviceProp properties{};
    if (const int code = taken(cudaGetDeviceProperties(&properties, ordinal)))
        return code;
    int pools = 0;
    if (const int code = taken(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, ordinal)))
        return code;
    *description = cuda_description{};
    std::snprintf(description->name, sizeof description->name, "%.63s", properties.name);
    description->compute_major = static_cast<uint32_t>(properties.major);
    description->compute_minor = static_cast<uint32_t>(properties.minor);
    description->multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount);
    description->pools_supported = pools != 0 ? 1 : 0;
    description->memory_bytes = properties.totalGlobalMem;
    return 0;
}

int select(int ordinal) {
    return taken(cudaSetDevice(ordinal));
}

int memory_info(uint64_t* bytes_free, uint64_t* bytes_total) {
    size_t left = 0;
    size_t total = 0;
    const int code = taken(cudaMemGetInfo(&left, &total));
    *bytes_free = left;
    *bytes_total = total;
    return code;
}

int pool_create(int ordinal, void** pool) {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = ordinal;
    cudaMemPool_t created = nullptr;
    if (const int code = taken(cudaMemPoolCreate(&created, &properties)))
        return code;
    uint64_t keep = UINT64_MAX; // by default a pool gives everything back at each synchronisation
    if (const int code = taken(cudaMemPoolSetAttribute(created, cudaMemPoolAttrReleaseThreshold, &keep))) {
        (void)cudaMemPoolDestroy(created);
        return code;
    }
    *pool = created;
    return 0;
}
int pool_destroy(void* pool) {
    return taken(cudaMemPoolDestroy(static_cast<cudaMemPool_t>(pool)));
}

int allocate(void** address, uint64_t bytes, void* pool, void* stream) {
    return taken(pool ? cudaMallocFromPoolAsync(address, bytes, static_cast<cudaMemPool_t>(pool), stream_of(stream))
                      : cudaMalloc(address, bytes));
}
int release(void* address, void* pool, void* stream) {
    return taken(pool ? cudaFreeAsync(address, stream_of(stream)) : cudaFree(address));
}
int allocate_host(void** address, uint64_t bytes) {
    return taken(cudaHostAlloc(address, bytes, cudaHostAllocPortable));
}
int release_host(void* address) {
    return taken(cudaFreeHost(address));
}

int stream_create(void** stream) {
    cudaStream_t created = nullptr;
    const int code = taken(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
    *stream = created;
    return code;
}
int stream_destroy(void* stream) {
    return taken(cudaStreamDestroy(stream_of(stream)));
}
int stream_synchronize(void* stream) {
    return taken(cudaStreamSynchronize(stream_of(stream)));
}
int copy(void* to, const void* from, uint64_t bytes, void* stream) {
    return taken(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(stream)));
}
int fill(void* address, int byte, uint64_t bytes, void* stream) {
    return taken(cudaMemsetAsync(address, byte, bytes, stream_of(stream)));
}

int event_create(void** event) {
    cudaEvent_t created = nullptr;
    const int code = taken(cudaEventCreateWithFlags(&created, cudaEventDisableTiming));
    *event = created;
    return code;
}
int event_destroy(void* event) {
    return taken(cudaEventDestroy(event_of(event)));
}
int event_record(void* event, void* stream) {
    return taken(cudaEventRecord(event_of(event), stream_of(stream)));
}
int event_wait(void* stream, void* event) {
    return taken(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0));
}
int event_query(void* event) {
    return taken(cudaEventQuery(event_of(event)));
}
int event_synchronize(void* event) {
    return taken(cudaEventSynchronize(event_of(event)));
}

int capture_begin(void* stream) {
    return taken(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal));
}
int capture_end(void* stream, void** graph) {
    cudaGraph_t captured = nullptr;
    if (const int code = taken(cudaStreamEndCapture(stream_of(stream), &captured)))
        return code;
    cudaGraphExec_t ready = nullptr;
    const int code = taken(cudaGraphInstantiate(&ready, captured, 0));
    (void)cudaGraphDestroy(captured);
    *graph = ready;
    return code;
}
int graph_launch(void* graph, void* stream) {
    return taken(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(stream)));
}
int graph_destroy(void* graph) {
    return taken(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

int copy_rows(void* to, uint64_t to_stride, const void* from, uint64_t from_stride, uint64_t row_bytes, uint64_t rows,
              void* stream) {
    return taken(
        cudaMemcpy2DAsync(to, to_stride, from, from_stride, row_bytes, rows, cudaMemcpyDefault, stream_of(stream)));
}

} // namespace

const cuda_calls& cuda_runtime_calls() {
    static constexpr cuda_calls calls = {error_text,     device_count,       describe,      select,
                                         memory_info,    pool_create,        pool_destroy,  allocate,
                                         release,        allocate_host,      release_host,  stream_create,
                                         stream_destroy, stream_synchronize, copy,          fill,
                                         event_create,   event_destroy,      event_record,  event_wait,
                                         event_query,    event_synchronize,  capture_begin, capture_end,
                                         graph_launch,   graph_destroy,      copy_rows,     load_cublas};
    return calls;
}

} // namespace moira
