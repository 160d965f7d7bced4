#pragma once

#include "core/base/error.hpp"
#include "core/route/linear_heads.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>
#include <functional>

namespace moira {

/// Calls its function once for every number below the count, in any order and perhaps on several threads at once.
using for_each_function = std::function<void(std::size_t count, const std::function<void(std::size_t)>& body)>;

struct heads_training_options {
    std::int32_t epochs = 2; ///< a third adds less than 0.2 points of recall
    std::uint64_t seed = 1;  ///< of the order in which tokens are seen
    /// A smaller rank is taken when it costs at most this much recall at k on what is held out of training.
    double rank_loss_max = 0.002;
    for_each_function for_each; ///< empty: one after another
};

/// Trains a head from every layer to each of the next heads_ahead_max: logistic regressions of each expert by AdaGrad
/// (Duchi et al., 2011), then the closest maps of low rank, one rank for all, chosen on the last tenth of the sequences
/// (at least one), which is not trained on. Deterministic. Errors: invalid_argument (no states, too few tokens or
/// layers, more experts than heads are made for).
result<linear_heads> train_heads(const route_trace& trace, const heads_training_options& options = {});

/// Heads for more experts would take hours: the closest map takes experts^3 steps.
inline constexpr std::uint32_t heads_experts_max = 1'024;

} // namespace moira
