// A CPU plugin opened straight from its file, on a host of its own with a team of plain threads.
#pragma once

#include "plugins/moira_plugin.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moira_test {

// What the machine that runs the test can do, as MOIRA_CPU_*.
uint32_t machine_features();

// The plugins of this build that this machine can run.
std::vector<std::string> usable_plugins();

moira_probe probe_plugin(const std::string& name, uint32_t cpu_features);

template <class Desc>
Desc make_desc(uint32_t op, uint32_t rows_max) {
    Desc desc{};
    desc.header = {sizeof(Desc), op, rows_max};
    return desc;
}

class cpu_plugin_session {
public:
    cpu_plugin_session(const std::string& name, uint32_t team_size);
    ~cpu_plugin_session();
    cpu_plugin_session(const cpu_plugin_session&) = delete;
    cpu_plugin_session& operator=(const cpu_plugin_session&) = delete;

    const moira_plugin_api& api() const { return *api_; }
    moira_device* device() const { return device_; }
    moira_stream* stream() const { return stream_; }
    uint64_t team_runs() const { return team_runs_; }

    // 64-byte aligned, filled with NaN bits so that nothing unset passes for a result.
    void* allocate(uint64_t bytes);

    moira_status prepare(const moira_op_header& desc, moira_op** op, void** workspace);

    // Prepares, launches once, destroys. The workspace goes where `workspace` points (nullptr: the op has none).
    template <class Desc, class Args>
    moira_status run(const Desc& desc, Args args, void* Args::*workspace = nullptr) {
        moira_op* op = nullptr;
        void* memory = nullptr;
        if (const moira_status status = prepare(desc.header, &op, &memory))
            return status;
        if (workspace)
            args.*workspace = memory;
        const moira_launch launch{op, &args};
        const moira_status status = api_->launch(stream_, &launch, 1);
        api_->op_destroy(op);
        return status;
    }

    // The stream's error word, which this clears.
    moira_error_word error_word();

    // A packed block of this plugin.
    void* pack(const moira_pack_desc& desc, const std::vector<moira_pack_source>& sources);

private:
    static void run_team(void* context, uint32_t team_size_max, moira_team_function function, void* argument);

    moira_host host_{};
    uint32_t team_size_;
    uint64_t team_runs_ = 0;
    const moira_plugin_api* api_ = nullptr;
    moira_device* device_ = nullptr;
    moira_stream* stream_ = nullptr;
    std::vector<void*> blocks_;
};

// Numbers in (-1, 1) from a seed, on a grid that BF16 holds exactly when `coarse` is set.
std::vector<float> random_floats(uint64_t count, uint64_t seed, bool coarse = false);

// A weight as stored, and what its elements are worth.
struct stored_weight {
    std::vector<unsigned char> bytes;
    std::vector<float> scales; // F8 only, blocks of 128 x block_k
    std::vector<float> values; // [n, k], scales applied
    moira_quantization quantization{};
};
stored_weight random_weight(uint32_t weight_type, uint32_t n, uint32_t k, uint64_t seed, uint32_t block_k = 128);

} // namespace moira_test
