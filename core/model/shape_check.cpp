#include "core/model/checkpoint.hpp"
#include "core/model/model_config.hpp"

#include <cmath>

namespace moira {

namespace {

/// Collects the first complaint about a shape.
class shape_checks {
public:
    void in(std::string_view what, std::int64_t value, integer_range range) {
        if (value < range.least || value > range.most)
            refuse(std::string(what) + " is " + std::to_string(value) + "; expected " + std::to_string(range.least) +
                   " to " + std::to_string(range.most));
    }
    /// NaN lies in no range.
    void number_in(std::string_view what, double value, number_range range) {
        if (!(value >= range.least && value <= range.most))
            refuse(std::string(what) + " is " + std::to_string(value) + "; expected " + std::to_string(range.least) +
                   " to " + std::to_string(range.most));
    }
    void that(bool holds, std::string_view complaint) {
        if (!holds)
            refuse(std::string(complaint));
    }
    bool failed() const { return !complaint_.empty(); }
    result<void> outcome() const {
        if (complaint_.empty())
            return {};
        return fail(errc::invalid_config, complaint_);
    }

private:
    void refuse(std::string complaint) {
        if (complaint_.empty())
            complaint_ = std::move(complaint);
    }
    std::string complaint_;
};

void check_gqa(shape_checks& check, const model_shape& shape) {
    const auto& gqa = *shape.gqa;
    check.in("attention heads", gqa.heads, heads_range);
    check.in("key/value heads", gqa.kv_heads, heads_range);
    check.in("head size", gqa.head_dim, head_dim_range);
    check.that(gqa.kv_heads > 0 && gqa.heads % gqa.kv_heads == 0,
               "the number of attention heads is no multiple of the key/value heads");
    check.in("sliding window", gqa.window, {0, context_range.most});
    check.that(shape.rope.width <= gqa.head_dim, "the rotary width is larger than a head");
}

void check_mla(shape_checks& check, const model_shape& shape) {
    const auto& mla = *shape.mla;
    check.in("attention heads", mla.heads, heads_range);
    check.in("query rank", mla.query_rank, {0, rank_range.most});
    check.in("key/value rank", mla.kv_rank, rank_range);
    check.in("key size", mla.key_dim, head_dim_range);
    check.in("rotary size", mla.rope_dim, head_dim_range);
    check.in("value size", mla.value_dim, head_dim_range);
    check.that(shape.rope.width == mla.rope_dim, "the rotary width differs from the rotary part of a head");
}

void check_rope(shape_checks& check, const rope_shape& rope) {
    using kind = rope_shape::scaling_kind;
    check.in("rotary width", rope.width, {2, head_dim_range.most});
    check.that(rope.width % 2 == 0, "the rotary width is odd");
    check.number_in("rope_theta", rope.theta, theta_range);
    if (rope.scaling == kind::none)
        return;
    check.number_in("rope factor", rope.factor, factor_range);
    if (rope.scaling == kind::linear)
        return;
    check.in("original context", rope.original_context, context_range);
    if (rope.scaling == kind::llama3) {
        check.number_in("low_freq_factor", rope.low_frequency_factor, factor_range);
        check.number_in("high_freq_factor", rope.high_frequency_factor, factor_range);
        check.that(rope.low_frequency_factor < rope.high_frequency_factor,
                   "low_freq_factor is not below high_freq_factor");
        return;
    }
    check.number_in("beta_fast", rope.beta_fast, factor_range);
    check.number_in("beta_slow", rope.beta_slow, factor_range);
    check.that(rope.beta_slow <= rope.beta_fast, "beta_slow is larger than beta_fast");
    check.number_in("mscale", rope.mscale, {0.0, 1e3});
    check.number_in("mscale_all_dim", rope.mscale_all_dim, {0.0, 1e3});
    if (rope.attention_factor)
        check.number_in("attention_factor", *rope.attention_factor, factor_range);
}

void check_moe(shape_checks& check, const model_shape& shape) {
    const auto& moe = shape.moe;
    check.in("experts", moe.experts, experts_range);
    check.in("experts per token", moe.top_k, {1, std::max(moe.experts, 1)});
    check.in("expert inner size", moe.inner, inner_range);
    check.in("shared expert inner size", moe.shared_inner, {0, inner_range.most});
    check.in("experts of all layers", std::int64_t{moe.experts} * shape.moe_layers(), {1, experts_total_max});
    check.in("expert groups", moe.groups, {1, std::max(moe.experts, 1)});
    check.in("expert groups kept", moe.groups_kept, {1, std::max(moe.groups, 1)});
    check.number_in("routed scaling factor", moe.scale, expert_scale_range);
    if (check.failed())
        return;
    const auto group = moe.experts / moe.groups;
    check.that(moe.experts % moe.groups == 0, "the experts do not divide into the groups");
    check.that(std::int64_t{group} * moe.groups_kept >= moe.top_k,
               "the groups kept hold fewer experts than a token needs");
    // A group is scored by its two best experts (DeepSeek-V3, section 2.1.2).
    check.that(moe.groups == 1 || group >= 2, "an expert group holds fewer than two experts");
}

} // namespace

result<void> check_shape(const model_shape& shape) {
    shape_checks check;
    check.in("vocabulary", shape.vocabulary, vocabulary_range);
    check.in("hidden size", shape.hidden, hidden_range);
    check.in("layers", shape.layers, layers_range);
    check.in("context", shape.context_max, context_range);
    check.number_in("norm epsilon", shape.norm_epsilon, epsilon_range);
    check.in("multi-token-prediction layers", shape.mtp_layers, mtp_layers_range);
    check.that(shape.layer_is_moe.size() == static_cast<std::size_t>(shape.layers), "a layer's kind is not known");
    check.that(shape.gqa.has_value() != shape.mla.has_value(), "a model has one kind of attention");
    if (check.failed())
        return check.outcome();
    check_rope(check, shape.rope);
    if (shape.gqa)
        check_gqa(check, shape);
    else
        check_mla(check, shape);
    check.that(shape.moe_layers() > 0, "no layer has experts: this is not a mixture-of-experts model");
    check_moe(check, shape);
    if (shape.moe_layers() < shape.layers)
        check.in("dense inner size", shape.dense_inner, inner_range);
    const integer_range ids{0, shape.vocabulary - 1};
    if (shape.bos)
        check.in("beginning-of-text token", *shape.bos, ids);
    check.in("number of end tokens", static_cast<std::int64_t>(shape.eos.size()),
             {0, static_cast<std::int64_t>(end_tokens_max)});
    for (const auto token : shape.eos)
        check.in("end token", token, ids);
    return check.outcome();
}

} // namespace moira
