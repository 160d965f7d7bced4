#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// How many layers ahead heads are trained for.
inline constexpr std::int32_t heads_ahead_max = 2;

/// A linear map of low rank from what a layer's router saw to the log-odds of a later layer's experts.
struct linear_head {
    std::vector<float> up;   ///< [experts, rank]
    std::vector<float> down; ///< [rank, hidden]
    std::vector<float> bias; ///< [experts]
};

/// Trained heads of a model. Layers are counted over those that route. Plain data.
struct linear_heads {
    std::int32_t layers = 0, experts = 0, hidden = 0, rank = 0;
    std::vector<linear_head>
        heads; ///< [heads_ahead_max, layers]: from layer `l` to `l + ahead`; those past the last are empty

    const linear_head* find(std::int32_t from, std::int32_t ahead) const noexcept {
        if (from < 0 || ahead < 1 || ahead > heads_ahead_max || from + ahead >= layers)
            return nullptr;
        return &heads[static_cast<std::size_t>(ahead - 1) * static_cast<std::size_t>(layers) +
                      static_cast<std::size_t>(from)];
    }

    /// The map as one matrix, [experts, hidden].
    std::vector<float> matrix(const linear_head& head) const;

    /// Log-odds into `scores` [experts]. `state`: [hidden] as the router of layer `from` saw it.
    void score(const linear_head& head, std::span<const float> state, std::span<float> scores) const;
};

} // namespace moira
