// What a GPU does with single instructions, and how fast it reads, copies, multiplies and launches. Needs nothing of
// this project at run time.
#include "kernels/cuda/probes/device_speeds.hpp"
#include "kernels/cuda/probes/probe_sets.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <vector>

using namespace moira;

namespace {

constexpr int exit_passed = 0;
constexpr int exit_usage = 2;
constexpr int exit_failed = 3;
constexpr int exit_no_device = 4;

constexpr const char* usage =
    "usage: moira_device_probe [--device N] [--speed | --list]\n"
    "Feeds chosen inputs to the matrix instructions of a GPU and compares each lane's registers with the tables.\n"
    "--speed: bandwidth, copies, products and launches, as JSON. --list: the probes, without a device.\n"
    "exit code: 0 all passed, 2 wrong usage, 3 a probe failed, 4 no device\n";

struct probe_options {
    int device = 0;
    bool speed = false;
    bool list = false;
};

bool parse(int count, char** arguments, probe_options& options) {
    for (int i = 1; i < count; ++i) {
        if (std::strcmp(arguments[i], "--speed") == 0)
            options.speed = true;
        else if (std::strcmp(arguments[i], "--list") == 0)
            options.list = true;
        else if (std::strcmp(arguments[i], "--device") == 0 && i + 1 < count)
            options.device = std::atoi(arguments[++i]);
        else
            return false;
    }
    return !(options.speed && options.list);
}

int say_error(const char* doing, int code, int exit_code) {
    std::fprintf(stderr, "%s: %s (cudaError %d)\n", doing, cudaGetErrorString(static_cast<cudaError_t>(code)), code);
    return exit_code;
}

int list_probes() {
    uint32_t sets = 0;
    const probe_set* all = probe_sets(sets);
    for (uint32_t set = 0; set < sets; ++set)
        for (uint32_t index = 0; index < all[set].list.count; ++index) {
            const device_probe& probe = all[set].list.probes[index];
            std::printf("%s: %s, %u cases, %llu words\n", all[set].name, probe.name, probe.cases,
                        static_cast<unsigned long long>(probe_words(probe)));
        }
    return exit_passed;
}

// Device memory that is freed again.
struct device_words {
    uint32_t* address = nullptr;
    explicit device_words(uint64_t count) {
        void* memory = nullptr;
        code = cudaMalloc(&memory, count * sizeof(uint32_t));
        address = static_cast<uint32_t*>(memory);
        if (code == cudaSuccess) // what a probe does not write shows
            code = cudaMemset(address, 0xA5, count * sizeof(uint32_t));
    }
    ~device_words() { (void)cudaFree(address); }
    device_words(const device_words&) = delete;
    device_words& operator=(const device_words&) = delete;
    cudaError_t code;
};

// cudaError_t; `passed` says what came out.
int run_probe(const probe_set& set, uint32_t index, const uint32_t* in, bool& passed) {
    const device_probe& probe = set.list.probes[index];
    const uint64_t words = probe_words(probe);
    const device_words out(words);
    if (out.code != cudaSuccess)
        return out.code;
    if (const int code = set.launch(index, {in, out.address}))
        return code;
    std::vector<uint32_t> found(words);
    if (const int code = cudaMemcpy(found.data(), out.address, words * sizeof(uint32_t), cudaMemcpyDeviceToHost))
        return code;
    const probe_mismatch mismatch = compare_probe(probe, found.data());
    passed = !mismatch.found;
    if (passed)
        std::printf("passed  %s: %s\n", set.name, probe.name);
    else
        std::printf(
            "FAILED  %s: %s: case %u, thread %u, word %u: found 0x%08x, expected 0x%08x; %u of %llu words wrong\n",
            set.name, probe.name, mismatch.case_index, mismatch.thread, mismatch.word, mismatch.found_bits,
            mismatch.expected_bits, mismatch.wrong_words, static_cast<unsigned long long>(words));
    return 0;
}

int run_probes(const cudaDeviceProp& device) {
    std::vector<uint32_t> words(probe_in_words);
    for (uint32_t i = 0; i < probe_in_words; ++i)
        words[i] = probe_in_word(i);
    const device_words in(probe_in_words);
    int code = in.code;
    if (code == 0)
        code = cudaMemcpy(in.address, words.data(), words.size() * sizeof(uint32_t), cudaMemcpyHostToDevice);
    if (code != 0)
        return say_error("preparing the inputs", code, exit_failed);
    uint32_t sets = 0, run = 0, failed = 0;
    const probe_set* all = probe_sets(sets);
    for (uint32_t set = 0; set < sets; ++set) {
        if (!all[set].runs_on(uint32_t(device.major), uint32_t(device.minor))) {
            std::printf("skipped %s: not on compute capability %d.%d\n", all[set].name, device.major, device.minor);
            continue;
        }
        for (uint32_t index = 0; index < all[set].list.count; ++index, ++run) {
            bool passed = false;
            if ((code = run_probe(all[set], index, in.address, passed)) != 0)
                return say_error(all[set].list.probes[index].name, code, exit_failed);
            failed += passed ? 0 : 1;
        }
    }
    std::printf("%s: %u probes, %u failed\n", device.name, run, failed);
    return failed == 0 ? exit_passed : exit_failed;
}

int print_speeds(const cudaDeviceProp& device) {
    device_speeds found{};
    if (const int code = measure_device_speeds(found))
        return say_error("measuring", code, exit_failed);
    std::printf(
        "{\"device\":\"%s\",\"compute\":\"%d.%d\",\"multiprocessors\":%d,\"read_gb_s\":%.1f,"
        "\"to_device_gb_s\":%.2f,\"to_host_gb_s\":%.2f,\"both_ways_gb_s\":%.2f,\"mma_tflop_s\":%.1f,"
        "\"tensor_tflop_s\":%.1f,\"launch_us\":%.2f,\"graph_launch_us\":%.2f,\"l2_mib\":%.0f,\"read_mib\":%.0f}\n",
        device.name, device.major, device.minor, device.multiProcessorCount, found.read_gb_s, found.to_device_gb_s,
        found.to_host_gb_s, found.both_ways_gb_s, found.mma_tflop_s, found.tensor_tflop_s, found.launch_us,
        found.graph_launch_us, found.l2_mib, found.read_mib);
    return exit_passed;
}

} // namespace

int main(int count, char** arguments) {
    probe_options options;
    if (!parse(count, arguments, options)) {
        std::fputs(usage, stderr);
        return exit_usage;
    }
    if (options.list)
        return list_probes();
    int devices = 0; // the call leaves it untouched when there is no driver
    if (const int code = cudaGetDeviceCount(&devices))
        return say_error("no CUDA device", code, exit_no_device);
    if (options.device < 0 || options.device >= devices) {
        std::fprintf(stderr, "there is no device %d; CUDA sees %d\n", options.device, devices);
        return exit_no_device;
    }
    cudaDeviceProp device{};
    if (const int code = cudaSetDevice(options.device))
        return say_error("selecting the device", code, exit_no_device);
    if (const int code = cudaGetDeviceProperties(&device, options.device))
        return say_error("asking the device", code, exit_no_device);
    return options.speed ? print_speeds(device) : run_probes(device);
}
