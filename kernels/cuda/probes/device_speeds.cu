#include "kernels/cuda/probes/device_speeds.hpp"

#include "kernels/cuda/probes/speed_kernels.hpp"

#include <algorithm>
#include <chrono>
#include <cuda_runtime.h>
#include <vector>

namespace moira {

namespace {

constexpr int passes = 5;
constexpr uint64_t copy_bytes = uint64_t{256} << 20; // long enough that setting up a copy does not count
constexpr int empty_launches = 1000;                 // about the ops of a step

// Remembers the first error; whatever comes after it does nothing.
class speed_run {
public:
    ~speed_run() {
        (void)cudaDeviceSynchronize();
        for (void* address : device_)
            (void)cudaFree(address);
        for (void* address : host_)
            (void)cudaFreeHost(address);
        for (cudaStream_t stream : streams_)
            (void)cudaStreamDestroy(stream);
        for (cudaEvent_t event : events_)
            (void)cudaEventDestroy(event);
    }

    bool check(cudaError_t code) {
        if (code_ == cudaSuccess)
            code_ = code;
        return code_ == cudaSuccess;
    }
    int code() const { return int(code_); }

    void* on_device(uint64_t bytes) {
        void* address = nullptr;
        if (check(cudaMalloc(&address, bytes)))
            device_.push_back(address);
        if (address)
            check(cudaMemset(address, 0, bytes));
        return address;
    }
    void* on_host(uint64_t bytes) {
        void* address = nullptr;
        if (check(cudaHostAlloc(&address, bytes, cudaHostAllocPortable)))
            host_.push_back(address);
        return address;
    }
    cudaStream_t stream() {
        cudaStream_t made = nullptr;
        if (check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking)))
            streams_.push_back(made);
        return made;
    }
    cudaEvent_t event() {
        cudaEvent_t made = nullptr;
        if (check(cudaEventCreate(&made)))
            events_.push_back(made);
        return made;
    }

    // Median seconds of queue(), by the device's clock.
    template <class Queue>
    double seconds(cudaStream_t on, const Queue& queue) {
        const cudaEvent_t begin = event(), end = event();
        std::vector<double> all;
        for (int pass = 0; pass <= passes && code_ == cudaSuccess; ++pass) {
            check(cudaEventRecord(begin, on));
            queue();
            check(cudaEventRecord(end, on));
            check(cudaEventSynchronize(end));
            float milliseconds = 0;
            check(cudaEventElapsedTime(&milliseconds, begin, end));
            if (pass > 0) // the first one warms up
                all.push_back(double(milliseconds) * 1e-3);
        }
        return median(all);
    }
    // The same by the host's clock, until the device is idle.
    template <class Queue>
    double host_seconds(const Queue& queue) {
        std::vector<double> all;
        for (int pass = 0; pass <= passes && code_ == cudaSuccess; ++pass) {
            const auto begin = std::chrono::steady_clock::now();
            queue();
            check(cudaDeviceSynchronize());
            if (pass > 0)
                all.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
        }
        return median(all);
    }

private:
    static double median(std::vector<double>& all) {
        if (all.empty())
            return 0;
        std::sort(all.begin(), all.end());
        return all[all.size() / 2];
    }

    cudaError_t code_ = cudaSuccess;
    std::vector<void*> device_, host_;
    std::vector<cudaStream_t> streams_;
    std::vector<cudaEvent_t> events_;
};

double rate(double amount, double seconds) {
    return seconds > 0 ? amount / seconds : 0;
}

// Dense BF16 with float32 sums, per multiprocessor and clock: NVIDIA's architecture whitepapers.
double flops_per_clock(int major, int minor) {
    if (major == 8)
        return minor == 0 ? 2048 : 1024;
    return major == 9 ? 4096 : major == 10 ? 8192 : major >= 12 ? 1024 : 0;
}

void measure_memory(speed_run& run, const cudaDeviceProp& device, device_speeds& speeds, uint32_t* sink) {
    size_t left = 0, total = 0;
    run.check(cudaMemGetInfo(&left, &total));
    const uint64_t bytes = std::min<uint64_t>(uint64_t{4} << 30, left / 4);
    speeds.read_mib = double(bytes >> 20);
    speed_args args{};
    args.data = static_cast<const uint4*>(run.on_device(bytes));
    args.vectors = bytes / sizeof(uint4);
    args.sink = sink;
    const auto blocks = uint32_t(device.multiProcessorCount) * 4;
    const cudaStream_t stream = run.stream();
    speeds.read_gb_s = rate(double(bytes) * 1e-9, run.seconds(stream, [&] {
        speed_read<<<blocks, speed_threads, 0, stream>>>(args);
        run.check(cudaGetLastError());
    }));
}

void measure_multiplication(speed_run& run, int ordinal, const cudaDeviceProp& device, device_speeds& speeds,
                            uint32_t* sink) {
    speed_args args{};
    args.rounds = 20000;
    args.sink = sink;
    const auto blocks = uint32_t(device.multiProcessorCount);
    const double flops = double(args.rounds) * speed_chains * speed_mma_flops * blocks * (speed_threads / warp_lanes);
    const cudaStream_t stream = run.stream();
    speeds.mma_tflop_s = rate(flops * 1e-12, run.seconds(stream, [&] {
        speed_multiply<<<blocks, speed_threads, 0, stream>>>(args);
        run.check(cudaGetLastError());
    }));
    int clock_khz = 0;
    run.check(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, ordinal));
    speeds.tensor_tflop_s = double(device.multiProcessorCount) * double(clock_khz) * 1e3 *
                            flops_per_clock(device.major, device.minor) * 1e-12;
}

void measure_copies(speed_run& run, device_speeds& speeds) {
    void* const host = run.on_host(copy_bytes);
    void* const device = run.on_device(copy_bytes);
    void* const other_host = run.on_host(copy_bytes);
    void* const other_device = run.on_device(copy_bytes);
    const cudaStream_t up = run.stream(), down = run.stream();
    const auto upload = [&] { run.check(cudaMemcpyAsync(device, host, copy_bytes, cudaMemcpyHostToDevice, up)); };
    const auto download = [&] {
        run.check(cudaMemcpyAsync(other_host, other_device, copy_bytes, cudaMemcpyDeviceToHost, down));
    };
    if (run.code() != 0)
        return;
    constexpr double gb = double(copy_bytes) * 1e-9;
    speeds.to_device_gb_s = rate(gb, run.seconds(up, upload));
    speeds.to_host_gb_s = rate(gb, run.seconds(down, download));
    speeds.both_ways_gb_s = rate(2 * gb, run.host_seconds([&] {
        upload();
        download();
    }));
}

void measure_launches(speed_run& run, device_speeds& speeds, uint32_t* sink) {
    speed_args args{};
    args.sink = sink;
    const cudaStream_t stream = run.stream();
    const auto launch_all = [&] {
        for (int i = 0; i < empty_launches; ++i)
            speed_nothing<<<1, warp_lanes, 0, stream>>>(args);
        run.check(cudaGetLastError());
    };
    speeds.launch_us = run.host_seconds(launch_all) * 1e6 / empty_launches;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    run.check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    launch_all();
    run.check(cudaStreamEndCapture(stream, &graph));
    if (run.check(cudaGraphInstantiate(&ready, graph, 0)))
        speeds.graph_launch_us =
            run.host_seconds([&] { run.check(cudaGraphLaunch(ready, stream)); }) * 1e6 / empty_launches;
    if (ready)
        (void)cudaGraphExecDestroy(ready);
    if (graph)
        (void)cudaGraphDestroy(graph);
}

} // namespace

int measure_device_speeds(device_speeds& speeds) {
    speeds = device_speeds{};
    speed_run run;
    int ordinal = 0;
    cudaDeviceProp device{};
    if (!run.check(cudaGetDevice(&ordinal)) || !run.check(cudaGetDeviceProperties(&device, ordinal)))
        return run.code();
    speeds.l2_mib = double(device.l2CacheSize) / (1 << 20);
    auto* sink = static_cast<uint32_t*>(run.on_device(256));
    measure_memory(run, device, speeds, sink);
    measure_multiplication(run, ordinal, device, speeds, sink);
    measure_copies(run, speeds);
    measure_launches(run, speeds, sink);
    return run.code();
}

} // namespace moira
