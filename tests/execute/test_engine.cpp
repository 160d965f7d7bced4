#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>

namespace moira {

namespace {

class logits_collector final : public forward_observer {
public:
    explicit logits_collector(std::vector<float>& all) : all_(all) {}
    void hidden(std::int32_t, std::span<const float>) override {}
    void routing(std::int32_t, std::span<const std::int32_t>) override {}
    void logits(std::int32_t, std::span<const float> values) override {
        all_.insert(all_.end(), values.begin(), values.end());
    }

private:
    std::vector<float>& all_;
};

} // namespace

result<test_engine> test_engine::open(const std::filesystem::path& folder, const wanted& how) {
    auto opened = checkpoint::open(folder);
    if (!opened)
        return tl::unexpected(opened.error());
    test_engine made;
    compute_pool::options threads;
    threads.threads = how.threads;
    made.pool = std::make_unique<compute_pool>(threads);
    plugin_host::options plugins;
    plugins.folders = {MOIRA_BUILD_PLUGINS};
    plugins.forced_plugin = how.plugin;
    if (how.plugin == "fake_device") {
        plugins.folders = {MOIRA_TEST_PLUGINS};
        plugins.device_class = "fake";
    }
    auto host = plugin_host::open(plugins, *made.pool);
    if (!host)
        return tl::unexpected(host.error());
    made.host = std::move(*host);
    auto loaded = engine::load(std::move(*opened), *made.host, how.options);
    if (!loaded)
        return tl::unexpected(loaded.error());
    made.model = std::move(*loaded);
    return made;
}

test_engine test_engine::required(const std::filesystem::path& folder, const wanted& how) {
    auto made = open(folder, how);
    REQUIRE_MESSAGE(made, made.error().message);
    return std::move(*made);
}

std::vector<std::string> runnable_plugins() {
    std::vector<std::string> names;
    compute_pool pool({1, 0});
    plugin_host::options options;
    options.folders = {MOIRA_BUILD_PLUGINS};
    for (const std::string name : {"cpu_reference", "cpu_avx2", "cpu_avx512"}) {
        options.forced_plugin = name;
        if (plugin_host::open(options, pool))
            names.push_back(name);
    }
    REQUIRE(!names.empty());
    REQUIRE(names.front() == "cpu_reference");
    return names;
}

std::filesystem::path golden_folder(const std::string& name) {
    return std::filesystem::path(MOIRA_TEST_DATA) / "golden" / name;
}

std::vector<token_id> some_tokens(std::size_t count) {
    std::vector<token_id> ids;
    while (ids.size() < count)
        ids.push_back(static_cast<token_id>((ids.size() * 97 + 11) % 300));
    return ids;
}

result<std::vector<float>> logits_of(engine& model, const std::vector<token_id>& ids, std::int32_t chunk) {
    std::vector<float> all;
    logits_collector observer(all);
    const auto tokens = static_cast<std::int32_t>(ids.size());
    for (std::int32_t first = 0; first < tokens; first += chunk) {
        const auto count = std::min(chunk, tokens - first);
        const auto outcome = model.run_step(plan_prompt_rows(ids, first, count, model.limits()), &observer);
        if (outcome.failure)
            return tl::unexpected(*outcome.failure);
    }
    return all;
}

engine_options options_with_slots(std::uint64_t slots, std::uint64_t slab_bytes) {
    constexpr std::uint64_t padding = 256; // no layout asks for more alignment
    engine_options options;
    options.experts_budget_share = 0;
    options.experts_budget_bytes = slots * ((slab_bytes + padding - 1) / padding * padding);
    return options;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

} // namespace moira
