#include "actors/runtime_start.hpp"

#include "actors/api_keys.hpp"

namespace moira {

namespace {

runtime_identity identity_of(const settings& all, const engine& model) {
    runtime_identity identity;
    identity.model = model.model().folder().filename().string();
    identity.numerics_id = model.numerics_id();
    identity.plugins = model.plugins();
    identity.lossy = model.lossy();
    identity.speculation_mode = all.speculation.mode;
    identity.vocabulary = model.shape().vocabulary;
    identity.context_max = model.limits().context_max;
    return identity;
}

} // namespace

result<supervisor_options> supervisor_options_of(const settings& all, const std::shared_ptr<engine>& model,
                                                 std::uint32_t compute_threads, const log_function& log) {
    auto rules = intake_rules_of(all, *model, log);
    if (!rules)
        return tl::unexpected(rules.error());
    supervisor_options options;
    options.model = model;
    options.rules = std::make_shared<const intake_rules>(std::move(*rules));
    options.identity = std::make_shared<runtime_identity>(identity_of(all, *model));
    options.batch = batch_options_of(all, *model);
    options.tcp = tcp_limits_of(all);
    options.prefetch = prefetch_policy_of(all, compute_threads);
    options.own_thread = all.runtime.own_thread;
    options.log = log;
    options.fault_injection = all.server.fault_injection;
    options.step_timeout = std::chrono::seconds(all.runtime.step_timeout_s);
    if (!all.server.api_key_file.empty()) {
        auto keys = load_api_keys(all.server.api_key_file);
        if (!keys)
            return tl::unexpected(keys.error());
        options.api_keys = std::move(*keys);
    }
    return options;
}

} // namespace moira
