#include "tests/plugins/cpu_plugin_session.hpp"

#include "kernels/float_formats.hpp"

#include <doctest/doctest.h>

#include <barrier>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <thread>

namespace moira_test {

namespace {

void* open_file(const std::string& name) {
    const std::string file = std::string(MOIRA_BUILD_PLUGINS) + "/" + name + ".so";
    void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL); // never closed, as in the program
    REQUIRE_MESSAGE(handle != nullptr, dlerror());
    return handle;
}

void* allocate_aligned(void*, uint64_t bytes, uint64_t alignment) {
    constexpr uint64_t bytes_max = uint64_t{1} << 32; // a host refuses what it cannot have
    if (bytes > bytes_max)
        return nullptr;
    const uint64_t step = alignment < 64 ? 64 : alignment;
    return std::aligned_alloc(step, (bytes + step - 1) / step * step);
}

} // namespace

uint32_t machine_features() {
    uint32_t features = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        features |= MOIRA_CPU_AVX2_FMA_F16C;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        features |= MOIRA_CPU_AVX512_F_BW_VL_DQ;
    if (__builtin_cpu_supports("avx512bf16"))
        features |= MOIRA_CPU_AVX512_BF16;
    if (__builtin_cpu_supports("avx512vbmi"))
        features |= MOIRA_CPU_AVX512_VBMI;
#endif
    return features;
}

moira_probe probe_plugin(const std::string& name, uint32_t cpu_features) {
    const auto probe = reinterpret_cast<moira_plugin_probe_function>(dlsym(open_file(name), MOIRA_PLUGIN_PROBE_SYMBOL));
    REQUIRE(bool(probe));
    moira_device_facts facts{};
    facts.struct_size = sizeof facts;
    facts.cpu_features = cpu_features;
    facts.cpu_cores = 2;
    moira_probe answer{};
    answer.struct_size = sizeof answer;
    REQUIRE(probe(&facts, &answer) == MOIRA_OK);
    return answer;
}

std::vector<std::string> usable_plugins() {
    std::vector<std::string> usable;
    for (const char* name : {"cpu_reference", "cpu_avx2", "cpu_avx512"}) {
        const bool built = std::filesystem::exists(std::string(MOIRA_BUILD_PLUGINS) + "/" + name + ".so");
        if (built && probe_plugin(name, machine_features()).score > 0)
            usable.emplace_back(name);
    }
    return usable;
}

cpu_plugin_session::cpu_plugin_session(const std::string& name, uint32_t team_size) : team_size_(team_size) {
    host_.struct_size = sizeof host_;
    host_.abi_major = MOIRA_ABI_MAJOR;
    host_.abi_minor = MOIRA_ABI_MINOR;
    host_.context = this;
    host_.allocate = allocate_aligned;
    host_.release = [](void*, void* address) { std::free(address); };
    host_.log = [](void*, int32_t, const char*) {};
    host_.run_team = run_team;
    host_.team_barrier = [](void*, const moira_team_member* member) {
        static_cast<std::barrier<>*>(member->team)->arrive_and_wait();
    };
    host_.team_size = [](void* context) { return static_cast<cpu_plugin_session*>(context)->team_size_; };
    const auto open = reinterpret_cast<moira_plugin_open_function>(dlsym(open_file(name), MOIRA_PLUGIN_OPEN_SYMBOL));
    REQUIRE(bool(open));
    REQUIRE(open(&api_) == MOIRA_OK);
    REQUIRE(api_->device_open(&host_, 0, &device_) == MOIRA_OK);
    REQUIRE(api_->stream_create(device_, &stream_) == MOIRA_OK);
}

cpu_plugin_session::~cpu_plugin_session() {
    api_->stream_destroy(stream_);
    api_->device_close(device_);
    for (void* block : blocks_)
        std::free(block);
}

void cpu_plugin_session::run_team(void* context, uint32_t team_size_max, moira_team_function function, void* argument) {
    auto& session = *static_cast<cpu_plugin_session*>(context);
    ++session.team_runs_;
    const uint32_t size = team_size_max == 0 || team_size_max > session.team_size_ ? session.team_size_ : team_size_max;
    std::barrier<> barrier(size);
    const auto member_work = [&](uint32_t rank) {
        const moira_team_member member{rank, size, &barrier};
        function(argument, &member);
    };
    std::vector<std::thread> threads;
    for (uint32_t rank = 1; rank < size; ++rank)
        threads.emplace_back(member_work, rank);
    member_work(0);
    for (std::thread& thread : threads)
        thread.join();
}

void* cpu_plugin_session::allocate(uint64_t bytes) {
    void* block = allocate_aligned(nullptr, bytes == 0 ? 64 : bytes, 64);
    REQUIRE(block != nullptr);
    std::memset(block, 0xFF, bytes);
    blocks_.push_back(block);
    return block;
}

moira_status cpu_plugin_session::prepare(const moira_op_header& desc, moira_op** op, void** workspace) {
    uint64_t bytes = 0;
    const moira_status status = api_->op_prepare(device_, &desc, op, &bytes);
    if (status == MOIRA_OK)
        *workspace = allocate(bytes);
    return status;
}

moira_error_word cpu_plugin_session::error_word() {
    moira_error_word word{};
    REQUIRE(api_->stream_error(stream_, &word) == MOIRA_OK);
    return word;
}

void* cpu_plugin_session::pack(const moira_pack_desc& desc, const std::vector<moira_pack_source>& sources) {
    moira_pack_info info{};
    info.struct_size = sizeof info;
    REQUIRE(api_->pack_query(device_, &desc, &info) == MOIRA_OK);
    REQUIRE(info.alignment <= 64);
    void* packed = allocate(info.packed_bytes);
    void* scratch = allocate(info.scratch_bytes);
    REQUIRE(api_->pack(device_, &desc, sources.data(), packed, scratch) == MOIRA_OK);
    return packed;
}

std::vector<float> random_floats(uint64_t count, uint64_t seed, bool coarse) {
    std::vector<float> values(count);
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (float& value : values) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        value = float(double(state >> 11) * 0x1p-52 - 1.0);
        if (coarse)
            value = float(int(value * 64.0f)) / 64.0f;
    }
    return values;
}

stored_weight random_weight(uint32_t weight_type, uint32_t n, uint32_t k, uint64_t seed, uint32_t block_k) {
    stored_weight weight;
    weight.quantization.weight_type = weight_type;
    weight.values = random_floats(uint64_t{n} * k, seed, true);
    const bool f8 = weight_type == MOIRA_TYPE_F8_E4M3;
    const uint32_t element = weight_type == MOIRA_TYPE_F32 ? 4 : f8 ? 1 : 2;
    weight.bytes.resize(weight.values.size() * element);
    if (f8) {
        weight.quantization.scale_mode = MOIRA_SCALE_BLOCK;
        weight.quantization.block_n = 128;
        weight.quantization.block_k = block_k;
        weight.scales = random_floats(uint64_t{(n + 127) / 128} * ((k + block_k - 1) / block_k), seed + 1);
    }
    for (uint64_t i = 0; i < weight.values.size(); ++i) {
        float& value = weight.values[i];
        uint16_t half = moira::float_to_bf16(value);
        if (weight_type == MOIRA_TYPE_F16)
            half = moira::exact_float_to_f16(value);
        if (f8) {
            const auto bits = static_cast<uint8_t>((i * 37 + seed) % 127 + (i % 2) * 128); // every number but NaN
            value = moira::f8_e4m3_to_float(bits) *
                    weight.scales[i / k / 128 * ((k + block_k - 1) / block_k) + i % k / block_k];
            weight.bytes[i] = bits;
        } else {
            std::memcpy(weight.bytes.data() + i * element, element == 4 ? static_cast<void*>(&value) : &half, element);
        }
    }
    return weight;
}

} // namespace moira_test
