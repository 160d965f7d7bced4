#pragma once

#include "core/execute/compute_pool.hpp"
#include "core/execute/engine.hpp"
#include "plugins/plugin_host.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace moira {

/// An engine with everything below it, on one plugin.
struct test_engine {
    std::unique_ptr<compute_pool> pool;
    std::unique_ptr<plugin_host> host;
    std::unique_ptr<engine> model;

    struct wanted {
        std::string plugin = "cpu_reference";
        std::uint32_t threads = 1;
        engine_options options;
    };

    /// Errors: those of plugin_host, checkpoint and engine.
    static result<test_engine> open(const std::filesystem::path& folder, const wanted& how);

    /// The same, where failing would be the test's own fault.
    static test_engine required(const std::filesystem::path& folder, const wanted& how);
};

/// The CPU plugins that this processor can run; cpu_reference always.
std::vector<std::string> runnable_plugins();

/// A checkpoint folder of tests/data/golden: "deepseek_v3", "olmoe", "qwen3_moe".
std::filesystem::path golden_folder(const std::string& name);

/// Ids inside the vocabulary of every golden model; the same for every call.
std::vector<token_id> some_tokens(std::size_t count);

/// Logits of every row, computed in steps of `chunk` rows. Errors: the step's.
result<std::vector<float>> logits_of(engine& model, const std::vector<token_id>& ids, std::int32_t chunk);

/// Engine options with room for exactly `slots` experts; `slab_bytes` as the plugin packs them.
engine_options options_with_slots(std::uint64_t slots, std::uint64_t slab_bytes);

/// Bit for bit, so that two NaNs are equal and two zeros are not.
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

} // namespace moira
