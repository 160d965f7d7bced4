#pragma once

#include "core/execute/engine.hpp"
#include "plugins/fake_device/fake_device.h"
#include "plugins/plugin_host.hpp"
#include "tests/execute/test_engine.hpp"

#include <memory>
#include <string>
#include <vector>

namespace moira {

const moira_fake_controls& fake_controls();

/// The fake device, which tests script before and while a model runs on it. At the end nothing may be left on it, and
/// nothing may have happened on it that a real device could have run in another order.
struct fake_room {
    compute_pool pool{{1, 0}};
    std::unique_ptr<plugin_host> host;
    moira_device* device = nullptr;
    bool hazards_expected = false;

    fake_room();
    ~fake_room();
    fake_room(const fake_room&) = delete;
    fake_room& operator=(const fake_room&) = delete;

    /// Kinds of the hazards met so far.
    std::vector<std::uint32_t> hazards() const;

    result<std::unique_ptr<engine>> load(const std::string& model, const engine_options& options = {}) const;
    std::unique_ptr<engine> required(const std::string& model, const engine_options& options = {}) const;
};

/// A budget of exactly `slots` experts; `slab_bytes` as the plugin packs them.
expert_budget budget_of_slots(std::uint64_t slots, std::uint64_t slab_bytes);

/// Logits of every row on cpu_reference, all experts in memory, one step.
std::vector<float> reference_logits(const std::string& model, const std::vector<token_id>& ids);

} // namespace moira
