#pragma once

#include "core/base/error.hpp"
#include "core/route/route_memory.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace moira {

/// Memory of a history model. gpt-oss-20b's takes 17 MB and qwen3-30b-a3b's 70 MB with all blocks; larger models look
/// back over fewer layers.
inline constexpr std::uint64_t history_bytes_max = std::uint64_t{128} << 20;

/// Rows of a layer before the model is asked about it: until then the previous token says more.
inline constexpr std::uint64_t history_rows_least = 64;

/// Predicts experts from experts, without hidden states: a logistic regression per (layer, expert) on the one-hots of
/// what this token chose in the layers before and what the token before chose in this layer and the next ones. A
/// feature counts by the rank it was chosen at. Learns online by AdaGrad (Duchi et al., 2011), one row at a time.
///
/// Layers are counted over those that route. score() and learn() may run on different threads: each layer has a lock,
/// and score() never waits for it.
class history_model {
public:
    struct dimensions {
        std::int32_t layers = 0, experts = 0, top_k = 0;
    };
    /// What a layer's weights look at: so many layers of this token before it, so many of the previous token from this
    /// layer on.
    struct window {
        std::int32_t back = 0, ahead = 0;
    };

    /// Errors: unsupported (not even two blocks fit into `bytes_max`), invalid_argument (dimensions that no model has).
    static result<std::unique_ptr<history_model>> create(const dimensions& shape,
                                                         std::uint64_t bytes_max = history_bytes_max);

    const dimensions& shape() const noexcept { return shape_; }
    const window& looks_at() const noexcept { return window_; }

    /// Log-odds of every expert of `layer` into `scores` [experts]. False, and nothing is written, when too few rows
    /// have been seen or the layer is being learnt from at the moment. Any thread.
    bool score(std::int32_t layer, const route_context& context, std::span<float> scores) const;

    /// `layer` chose `chosen`. One thread at a time.
    void learn(std::int32_t layer, const route_context& context, std::span<const std::uint16_t> chosen);

    /// Weights of a layer, [features, experts] with the constant last, for files; not while anybody learns.
    std::span<const float> weights(std::int32_t layer) const noexcept;
    /// Takes weights over, of a model trained on `rows`. Precondition: the size of weights().
    void assign(std::int32_t layer, std::span<const float> weights, std::uint64_t rows);
    std::uint64_t rows(std::int32_t layer) const;

    /// Rows of weights per layer: window blocks of `experts` each, and the constant.
    std::size_t features() const noexcept;

private:
    struct feature {
        std::size_t row = 0;
        float value = 0;
    };
    struct layer_state {
        std::vector<float> weights;   ///< [features, experts]
        std::vector<float> gradients; ///< the same: sums of squares
        std::uint64_t rows = 0;
        mutable std::mutex lock;
    };

    history_model(const dimensions& shape, const window& looks_at);
    void gather(std::int32_t layer, const route_context& context, std::vector<feature>& features) const;
    void add_block(std::size_t block, std::span<const std::uint16_t> ids, std::int32_t layer,
                   std::vector<feature>& features) const;
    void sum(const layer_state& state, std::span<const feature> features, std::span<float> scores) const;

    dimensions shape_;
    window window_;
    std::vector<float> rank_values_; ///< [top_k]
    std::unique_ptr<layer_state[]> layers_;
    std::vector<float> errors_; ///< [experts], of learn()
};

} // namespace moira
