#pragma once

#include "tools/moira/op_bench.hpp"

namespace moira {

/// Packs experts of the checkpoint as their loading does, on the calling thread; bytes come from memory. `provider`
/// runs the routed experts; null, or experts that the files hold packed: nothing is measured. Errors: those of reading
/// and packing.
result<packing_speed> measure_packing(const engine& model, const op_provider* provider);

} // namespace moira
