#include "core/execute/hot_experts.hpp"

#include <algorithm>

namespace moira {

std::string profile_identity(const model_shape& shape) {
    return shape.architecture.substr(0, expert_profile::model_bytes_max / 2) + ", " + std::to_string(shape.layers) +
           " layers, " + std::to_string(shape.moe.experts) + " experts, top " + std::to_string(shape.moe.top_k) +
           ", hidden " + std::to_string(shape.hidden) + ", vocabulary " + std::to_string(shape.vocabulary);
}

hot_experts::hot_experts(std::filesystem::path path, engine& model, log_function log)
    : path_(std::move(path)), model_(model), log_(std::move(log)) {
    const auto warming = warm_up();
    ours_ = warming || warming.error().code == errc::not_found;
    if (!ours_ && log_)
        log_(log_level::warning, "experts.profile is ignored and stays as it is: " + warming.error().message);
}

hot_experts::~hot_experts() {
    model_.experts().stop_warm_up();
    if (const auto saved = save(); !saved && log_)
        log_(log_level::warning, saved.error().message);
}

result<void> hot_experts::warm_up() const {
    auto profile = read_expert_profile(path_);
    if (!profile)
        return tl::unexpected(profile.error());
    const auto expected = model_.experts().usage();
    if (profile->model != profile_identity(model_.shape()) || profile->experts != expected.experts)
        return fail(errc::invalid_argument, path_.string() + " is of another model (" + profile->model + ")");
    // The layer that drafts is not always there.
    profile->layers = expected.layers;
    profile->use_rates.resize(expected.use_rates.size());
    return model_.experts().warm_up(*profile);
}

result<void> hot_experts::save() const {
    auto profile = model_.experts().usage();
    const auto& rates = profile.use_rates;
    if (!ours_ || std::none_of(rates.begin(), rates.end(), [](float rate) { return rate > 0; }))
        return {};
    profile.model = profile_identity(model_.shape());
    return write_expert_profile(profile, path_);
}

} // namespace moira
