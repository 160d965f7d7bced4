#pragma once

#include "core/base/error.hpp"
#include "core/execute/op_provider.hpp"
#include "core/experts/checkpoint_slab_source.hpp"
#include "core/model/checkpoint.hpp"

#include <optional>

namespace moira {

/// Experts in a plugin's layout: who makes and undoes it, and how.
struct packed_form {
    const op_provider* provider = nullptr; ///< borrowed
    moira_pack_desc desc{};
    moira_pack_info info{}; ///< as the plugin says, without padding
    stored_layout layout;
};

/// How a pack changes the form of experts. Rounding of plain experts to plain ones is none: that goes tensor by tensor.
struct expert_conversion {
    std::optional<packed_form> from, to; ///< none: gate, up and down
    moira_quantization source{}, target{};
    bool rounds() const noexcept; ///< the target is FP8 and the source is wider
};

/// What becomes of a model's experts.
struct planned_experts {
    std::optional<expert_conversion> conversion; ///< none: they stay in their form
    std::optional<stored_layout> layout;         ///< of the pack; none: gate, up and down
};

/// `target`: whose plugin for experts gives the layout; null: gate, up and down. `source`: finds the plugin that undoes
/// the layout of the model's experts, where they have one and it changes; null: there is none. Both outlive the plan.
/// Errors: invalid_argument (no plugin given that undoes the layout), unsupported (another layout than the plugin's, or
/// experts of different types), op_missing, those of query_packing.
result<planned_experts> plan_experts(const checkpoint& model, bool fp8, const op_selector* target,
                                     const op_selector* source);

} // namespace moira
