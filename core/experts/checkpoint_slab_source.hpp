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

/// What experts are in their slots: as in the checkpoint, or E4M3 with a scale per block of 128 x 128 where the
/// checkpoint is wider (then lossy, see quantize_to_fp8). One choice for all experts, cold and hot.
enum class expert_precision { keep, fp8 };

/// Reads gate, up and down of one expert with their scales from safetensors (one read when they lie within a gap of at
/// most read_gap_bytes_max, else up to one each), quantises them where that was asked, then packs them with the plugin
/// that runs the expert FFN; experts that the files hold packed are read into their slots as they are. `model` and
/// `provider` outlive the source. Errors: op_missing/unsupported (no packing for the type, or packed in another
/// plugin's layout), invalid_config (experts of different shapes or types).
result<std::unique_ptr<slab_source>> make_checkpoint_slab_source(const checkpoint& model,
                                                                 const model_weight_names& names,
                                                                 const op_provider& provider, expert_io io,
                                                                 expert_precision precision = expert_precision::keep);

/// Descriptor of an expert's packing.
moira_pack_desc expert_pack_desc(std::uint32_t inner, std::uint32_t hidden, const moira_quantization& quantization);

/// What the plugin answers, within bounds. `what` is for errors: unsupported, plugin_incompatible.
result<moira_pack_info> query_packing(const op_provider& provider, const moira_pack_desc& desc,
                                      const std::string& what);

/// How the experts' weights are stored in slots. Errors: as make_checkpoint_slab_source, of the first expert.
result<moira_quantization> expert_quantization(const checkpoint& model, const model_weight_names& names,
                                               expert_precision precision);

/// The packing descriptor and its sizes for an expert of this model, as used by the source; the engine prepares its FFN
/// op with the same quantisation. Where the files hold packed experts, `info` is that of the file's tensors: padded
/// and aligned for reads that go straight into a slot.
struct expert_packing {
    moira_pack_desc desc{};
    moira_pack_info info{};
    std::uint64_t source_bytes = 0;  ///< in the checkpoint, one expert
    moira_quantization source{};     ///< in the checkpoint; what is packed is desc.quantization
    bool quantizes() const noexcept; ///< experts lose precision on their way into a slot
};
result<expert_packing> query_expert_packing(const checkpoint& model, const model_weight_names& names,
                                            const op_provider& provider,
                                            expert_precision precision = expert_precision::keep);

} // namespace moira
