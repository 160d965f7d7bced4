#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// Of a token whose sequence nobody names.
inline constexpr std::uint64_t no_sequence = ~std::uint64_t{0};

/// Stands where it is not known which expert a token chose.
inline constexpr std::uint16_t route_unknown = 0xFFFF;

/// What is known of a token when one of its layers is predicted. All are [layers, top_k] in falling order of choice,
/// over layers that route; unknown entries are route_unknown. Borrows.
struct route_context {
    std::span<const std::uint16_t> token;        ///< this token: the layers so far
    std::span<const std::uint16_t> previous;     ///< the token before it in its sequence; empty: nobody remembers
    std::span<const std::uint16_t> drafted = {}; ///< a rejected draft in the place of this token; empty: there was none
    std::uint64_t sequence = no_sequence;
};

/// Which experts the latest tokens chose, by the place of the token in the KV cache, which tells sequences apart. The
/// oldest token is forgotten for a new one. Plain state, one thread.
class route_memory {
public:
    /// `layers` that route, `top_k` experts each, room for `tokens_max` tokens (at least 1).
    route_memory(std::int32_t layers, std::int32_t top_k, std::size_t tokens_max);

    /// The experts of the token in `slot`, [layers, top_k]; all unknown when the slot is new to `step`.
    std::span<std::uint16_t> token(std::int32_t slot, std::uint64_t step);

    /// The same without making room: empty when nobody remembers.
    std::span<const std::uint16_t> find(std::int32_t slot) const noexcept;

private:
    struct owner {
        std::int32_t slot = -1;
        std::uint64_t step = 0;
    };

    std::span<std::uint16_t> at(std::size_t index) noexcept { return std::span(ids_).subspan(index * width_, width_); }

    std::size_t width_;
    std::vector<owner> owners_;
    std::vector<std::uint16_t> ids_; ///< [tokens_max, layers, top_k]
    std::size_t oldest_ = 0;
};

/// How often experts were chosen lately: older choices fade. Plain state, one thread.
class route_popularity {
public:
    route_popularity(std::int32_t layers, std::int32_t experts);

    void observe(std::int32_t layer, std::span<const std::uint16_t> chosen);

    /// [experts], in units of worth().
    std::span<const float> of(std::int32_t layer) const noexcept {
        return std::span(counts_).subspan(static_cast<std::size_t>(layer) * experts_, experts_);
    }
    /// What the layer's next choice counts.
    float worth(std::int32_t layer) const noexcept { return worth_[static_cast<std::size_t>(layer)]; }

    void clear();

private:
    std::size_t experts_;
    std::vector<float> counts_; ///< [layers, experts]
    std::vector<float> worth_;  ///< [layers]: of the next choice; grows, in place of all counts shrinking
};

} // namespace moira
