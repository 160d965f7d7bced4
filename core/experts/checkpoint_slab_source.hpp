#pragma once

#include "core/base/error.hpp"
#include "core/execute/op_provider.hpp"
#include "core/experts/slab_source.hpp"
#include "core/model/checkpoint.hpp"

#include <memory>

namespace moira {

/// How expert bytes are read. `automatic` takes the page cache when all expert bytes fit in half of the memory that is
/// available now (the other half is for everybody else) and direct I/O when they do not: both wrong choices cost 2-4x.
enum class expert_io { automatic, direct, buffered };

/// Reads gate, up and down of one expert from safetensors (one read when they lie within a gap of at most
/// read_gap_bytes_max, else one each), then packs them with the plugin that runs the expert FFN.
/// `model` and `provider` outlive the source. Errors: op_missing/unsupported (no packing for the type), invalid_config
/// (experts of different shapes or types).
result<std::unique_ptr<slab_source>> make_checkpoint_slab_source(const checkpoint& model,
                                                                 const model_weight_names& names,
                                                                 const op_provider& provider, expert_io io);

/// The packing descriptor and its sizes for an expert of this model, as used by the source; the engine prepares its FFN
/// op with the same quantisation.
struct expert_packing {
    moira_pack_desc desc{};
    moira_pack_info info{};
    std::uint64_t source_bytes = 0; ///< in the checkpoint, one expert
};
result<expert_packing> query_expert_packing(const checkpoint& model, const model_weight_names& names,
                                            const op_provider& provider);

} // namespace moira
