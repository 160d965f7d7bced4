#pragma once

#include "actors/tcp_limits.hpp"
#include "config/settings.hpp"
#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/batch/batcher.hpp"
#include "core/batch/request_intake.hpp"
#include "core/execute/compute_pool.hpp"
#include "core/execute/engine.hpp"
#include "core/execute/hot_experts.hpp"
#include "core/model/checkpoint.hpp"
#include "plugins/plugin_host.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace moira {

/// What of the settings each part takes.
engine_options engine_options_of(const settings& all);
batch_options batch_options_of(const settings& all, const engine& model);
sampling_parameters sampling_of(const settings& all);
tcp_limits tcp_limits_of(const settings& all);

/// Which plugins may be opened; without their folders.
plugin_host::options plugin_options_of(const settings& all);

/// `compute_threads`: of the pool; a processor beyond them is the loaders' own.
prefetch_policy prefetch_policy_of(const settings& all, std::uint32_t compute_threads);

/// Where a runtime finds its files, and who wants to hear of it.
struct runtime_surroundings {
    std::filesystem::path model;                        ///< folder of the checkpoint
    std::vector<std::filesystem::path> plugin_folders;
    load_progress progress = {};
    log_function log = {};
    bool mtp = false;  ///< load the multi-token-prediction layer, whatever the settings say
};

/// The machine room below the actors, in the order in which it is built; destroyed in the opposite order. Also what
/// evaluation commands use, without any actor.
struct model_room {
    std::unique_ptr<compute_pool> pool;
    std::unique_ptr<plugin_host> plugins;
    std::shared_ptr<engine> model;
    std::unique_ptr<hot_experts> profile; ///< null: none was asked for

    /// Loads the model. Errors: those of checkpoint, plugin_host and engine.
    static result<model_room> open(const settings& all, const runtime_surroundings& place);

private:
    result<void> load(checkpoint files, const settings& all, const engine_options& options,
                      const runtime_surroundings& place);
};

/// Tokenizer and chat template of a model folder. A checkpoint without them serves ids: their absence is said in the
/// log; a broken tokenizer is an error.
result<intake_rules> intake_rules_of(const settings& all, const engine& model, const log_function& log);

}  // namespace moira
