#include "core/evaluate/prompt_pass.hpp"

#include <algorithm>
#include <string>

namespace moira {

namespace {

/// Appends what each step shows; rows come in order, so the pieces concatenate.
class keeper final : public forward_observer {
public:
    keeper(prompt_pass& kept, const prompt_pass_options& options) : kept_(kept), options_(options) {}

    void hidden(std::int32_t layer, std::span<const float> rows) override {
        if (!options_.hidden)
            return;
        auto& all = kept_.hidden[static_cast<std::size_t>(layer)];
        all.insert(all.end(), rows.begin(), rows.end());
    }

    void routing(std::int32_t layer, std::span<const std::int32_t> ids) override {
        if (!options_.routing)
            return;
        auto& all = kept_.routing[layer];
        all.insert(all.end(), ids.begin(), ids.end());
    }

    void logits(std::int32_t, std::span<const float> values) override {
        kept_.logits.insert(kept_.logits.end(), values.begin(), values.end());
    }

    void mtp_logits(std::int32_t, std::span<const float> values) override {
        kept_.mtp_logits.insert(kept_.mtp_logits.end(), values.begin(), values.end());
    }

private:
    prompt_pass& kept_;
    const prompt_pass_options& options_;
};

result<void> check_kept(const engine& model, std::span<const token_id> ids, const prompt_pass_options& options) {
    const auto& shape = model.shape();
    const auto per_token = static_cast<std::uint64_t>(shape.vocabulary) * (options.mtp ? 2 : 1) +
                           (options.hidden ? static_cast<std::uint64_t>(shape.hidden) * (static_cast<std::uint64_t>(shape.layers) + 1) : 0);
    if (ids.size() * per_token * sizeof(float) > options.kept_bytes_max)
        return fail(errc::invalid_argument, "the tensors of " + std::to_string(ids.size()) + " tokens exceed " +
                                                std::to_string(options.kept_bytes_max) + " bytes: pass fewer tokens");
    return {};
}

}  // namespace

result<void> check_prompt(const engine& model, std::span<const token_id> ids) {
    const auto& shape = model.shape();
    if (ids.empty())
        return fail(errc::invalid_argument, "there are no tokens to run");
    for (const auto id : ids)
        if (id < 0 || id >= shape.vocabulary)
            return fail(errc::token_out_of_range, "token " + std::to_string(id) + " is outside the vocabulary of " +
                                                      std::to_string(shape.vocabulary));
    const auto context_max = std::min(model.limits().context_max, model.limits().pages * model.limits().page_tokens);
    if (ids.size() > static_cast<std::size_t>(context_max))
        return fail(errc::prompt_too_long, std::to_string(ids.size()) + " tokens do not fit the context of " +
                                               std::to_string(context_max));
    return {};
}

result<void> run_prompt_rows(engine& model, std::span<const token_id> ids, std::int32_t first, std::int32_t count,
                             std::int32_t logits_first, forward_observer& observer) {
    auto plan = plan_prompt_rows(ids, first, count, model.limits());
    const auto unwanted = std::clamp(logits_first - first, 0, count);
    plan.samples.erase(plan.samples.begin(), plan.samples.begin() + unwanted);
    const auto outcome = model.run_step(plan, &observer);
    if (outcome.failure)
        return tl::unexpected(*outcome.failure);
    return {};
}

result<prompt_pass> run_prompt(engine& model, std::span<const token_id> ids, const prompt_pass_options& options) {
    if (auto fine = check_prompt(model, ids); !fine)
        return tl::unexpected(fine.error());
    if (auto fine = check_kept(model, ids, options); !fine)
        return tl::unexpected(fine.error());
    prompt_pass kept;
    kept.tokens = static_cast<std::int32_t>(ids.size());
    kept.hidden.resize(options.hidden ? static_cast<std::size_t>(model.shape().layers) + 1 : 0);
    keeper observer(kept, options);
    for (std::int32_t first = 0; first < kept.tokens; first += model.limits().rows_max) {
        const auto count = std::min(model.limits().rows_max, kept.tokens - first);
        const auto plan = plan_prompt_rows(ids, first, count, model.limits());
        const auto outcome = model.run_step(plan, &observer);
        if (outcome.failure)
            return tl::unexpected(*outcome.failure);
        if (!options.mtp)
            continue;
        // The last token of all has no next one.
        const auto next = ids.subspan(static_cast<std::size_t>(first) + 1);
        const auto known = std::min(next.size(), static_cast<std::size_t>(count));
        if (auto done = model.run_mtp_rows(plan, next.first(known), observer); !done)
            return tl::unexpected(done.error());
    }
    return kept;
}

}  // namespace moira
