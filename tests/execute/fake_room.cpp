#include "tests/execute/fake_room.hpp"

#include <dlfcn.h>
#include <doctest/doctest.h>

namespace moira {

const moira_fake_controls& fake_controls() {
    static const moira_fake_controls* const table = [] {
        void* library = dlopen(MOIRA_TEST_PLUGINS "/fake_device.so", RTLD_NOW | RTLD_LOCAL);
        REQUIRE(library != nullptr);
        return reinterpret_cast<moira_fake_controls_function>(dlsym(library, MOIRA_FAKE_CONTROLS_SYMBOL))();
    }();
    return *table;
}

fake_room::fake_room() {
    plugin_host::options options;
    options.folders = {MOIRA_TEST_PLUGINS};
    options.forced_plugin = "fake_device";
    options.device_class = "fake";
    auto opened = plugin_host::open(options, pool);
    REQUIRE_MESSAGE(opened, opened.error().message);
    host = std::move(*opened);
    device = host->memory_provider().device;
}

fake_room::~fake_room() {
    CHECK(fake_controls().live_objects(device) == 0);
    if (!hazards_expected)
        CHECK(hazards() == std::vector<std::uint32_t>());
}

std::vector<std::uint32_t> fake_room::hazards() const {
    std::vector<std::uint32_t> kinds;
    moira_fake_hazard met{};
    for (std::uint64_t index = 0; fake_controls().hazard_at(device, index, &met) != 0; ++index)
        kinds.push_back(met.kind);
    return kinds;
}

result<std::unique_ptr<engine>> fake_room::load(const std::string& model, const engine_options& options) const {
    auto opened = checkpoint::open(golden_folder(model));
    REQUIRE(opened);
    return engine::load(std::move(*opened), *host, options);
}

std::unique_ptr<engine> fake_room::required(const std::string& model, const engine_options& options) const {
    auto loaded = load(model, options);
    REQUIRE_MESSAGE(loaded, loaded.error().message);
    return std::move(*loaded);
}

expert_budget budget_of_slots(std::uint64_t slots, std::uint64_t slab_bytes) {
    return {options_with_slots(slots, slab_bytes).experts_budget_bytes, 0, false};
}

std::vector<float> reference_logits(const std::string& model, const std::vector<token_id>& ids) {
    auto reference = test_engine::required(golden_folder(model), {});
    auto logits = logits_of(*reference.model, ids, static_cast<std::int32_t>(ids.size()));
    REQUIRE(logits);
    return std::move(*logits);
}

} // namespace moira
