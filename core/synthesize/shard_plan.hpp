#pragma once

#include "core/synthesize/synthetic_tensors.hpp"

namespace moira {

/// One file of a model: which tensors, in which order, and what stands before their bytes.
struct planned_shard {
    std::string file_name; ///< "model-00001-of-00002.safetensors"
    std::vector<const synthetic_tensor*> tensors;
    std::string prefix; ///< length field and header; the data follow at once
    std::uint64_t data_bytes = 0;

    std::uint64_t file_bytes() const { return prefix.size() + data_bytes; }
};

/// Tensors in order, as many to a file as `shard_bytes_max` holds, at least one. Errors: invalid_argument (more than
/// any reader accepts).
result<std::vector<planned_shard>> plan_shards(const std::vector<synthetic_tensor>& tensors,
                                               std::uint64_t shard_bytes_max);

/// Text of model.safetensors.index.json.
std::string shard_index_json(const std::vector<planned_shard>& shards);

} // namespace moira
