#pragma once

#include "core/experts/checkpoint_slab_source.hpp"

namespace moira {

// Experts that the files hold as a plugin keeps them in memory (stored_layout). Precondition of all:
// model.expert_layout().

/// Their quantisation. Errors: unsupported (they would have to be rounded).
result<moira_quantization> stored_quantization(const checkpoint& model, expert_precision precision);

/// As query_expert_packing. Errors: unsupported (the plugin's layout is another one), as query_packing.
result<expert_packing> query_stored_packing(const checkpoint& model, const op_provider& provider,
                                            expert_precision precision);

/// Reads straight into slots: no scratch, nothing to pack. A slot holds a whole tensor, padding included.
result<std::unique_ptr<slab_source>> make_packed_slab_source(const checkpoint& model, const model_weight_names& names,
                                                             const op_provider& provider, expert_io io,
                                                             expert_precision precision);

} // namespace moira
