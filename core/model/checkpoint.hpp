#pragma once

#include "core/base/error.hpp"
#include "core/model/checksum_list.hpp"
#include "core/model/model_shape.hpp"
#include "core/model/packed_experts.hpp"
#include "core/model/safetensors.hpp"

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// A Hugging Face folder on disk: config, headers of every shard, open files. Nothing of the weights is read until
/// asked. Immutable after opening; reads are thread-safe (pread).
class checkpoint {
public:
    /// Reads config.json, generation_config.json (when there) and the headers of model.safetensors or of the shards
    /// that model.safetensors.index.json names. Errors: not_found, io_error, corrupt_file, unsupported (architecture),
    /// invalid_config (impossible or absurd dimensions, a tensor that is missing or has another shape: named).
    static result<checkpoint> open(const std::filesystem::path& folder);

    checkpoint(checkpoint&&) noexcept;
    checkpoint& operator=(checkpoint&&) noexcept;
    ~checkpoint();

    const std::filesystem::path& folder() const noexcept;
    const model_shape& shape() const noexcept;
    const std::vector<std::filesystem::path>& files() const noexcept;
    int file_descriptor(std::uint32_t file) const noexcept; ///< read-only, owned here
    std::uint64_t file_bytes(std::uint32_t file) const noexcept;
    std::uint64_t tensor_bytes_total() const noexcept;

    const tensor_location* find(std::string_view name) const noexcept;
    /// Every tensor of every file, by name.
    const std::map<std::string, tensor_location, std::less<>>& tensors() const noexcept;

    /// How the experts lie in the files where they are `*.packed` tensors; null: as gate, up and down.
    const stored_layout* expert_layout() const noexcept;

    /// Things worth saying that are not errors: a declared MTP layer that is not there, tensors that nobody reads.
    const std::vector<std::string>& notices() const noexcept;

    /// Reads a whole tensor's bytes into `into` (exactly its size). Where the file has a checksum of exactly these
    /// bytes they are compared; a difference is looked at twice, past what the page cache holds. Errors: io_error,
    /// corrupt_file (name file and tensor).
    result<void> read(const tensor_location& tensor, std::span<std::byte> into) const;

    /// Reads a part of a tensor, from its byte `begin` on; compares nothing. Errors: io_error, invalid_argument.
    result<void> read_part(const tensor_location& tensor, std::uint64_t begin, std::span<std::byte> into) const;

    /// Reads all of the checksummed range that holds the tensor and compares; without one there is nothing to compare.
    /// Errors: io_error, corrupt_file.
    result<void> verify(const tensor_location& tensor) const;

    /// The checksums that a file brings, ascending and without overlap; empty: it has none.
    std::span<const checksum_range> checksums(std::uint32_t file) const noexcept;

private:
    struct impl;
    explicit checkpoint(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

/// Whether this build can compute from the checkpoint's weight types; open() accepts any type, so that a checkpoint
/// that cannot run can still be inspected. `mtp_modules`: how many multi-token-prediction modules are to run too.
/// Errors: those of find_weight.
result<void> check_runnable(const checkpoint& model, std::int32_t mtp_modules = 0);

/// Names of the tensors of one layer in the checkpoint's own spelling; empty where the layer has none.
struct attention_weight_names {
    // GQA
    std::string q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm;
    // MLA
    std::string q_a, q_a_norm, q_b, kv_a, kv_a_norm, kv_b, q_a_bias, kv_a_bias;
    std::string o, o_bias;
};

struct ffn_weight_names {
    std::string gate, up, down;
    std::string packed; ///< routed experts: what all three are called in a plugin's layout; empty elsewhere
};

/// Where the model keeps what: one function per architecture fills it (core/model/architectures/).
struct layer_weight_names {
    std::string input_norm, post_attention_norm;
    attention_weight_names attention;
    ffn_weight_names dense; ///< layers without experts
    std::string router, router_bias;
    ffn_weight_names shared;
    std::vector<ffn_weight_names> experts; ///< [experts]
};

/// What a multi-token-prediction module has beside its decoder block (DeepSeek-V3, section 2.2). Embedding and head are
/// the model's.
struct mtp_weight_names {
    std::string embedding_norm, hidden_norm; ///< enorm, hnorm
    std::string projection;                  ///< eh_proj
    std::string head_norm;                   ///< shared_head.norm
};

struct model_weight_names {
    std::string embedding, final_norm, head;
    std::vector<layer_weight_names> layers; ///< the model's, then one block per module of `mtp`
    std::vector<mtp_weight_names> mtp;
};

/// The names for a shape that check_shape accepted, with the first `mtp_modules` multi-token-prediction modules (at
/// most shape.mtp_layers).
model_weight_names weight_names(const model_shape& shape, std::int32_t mtp_modules = 0);

/// Numbers of `moira inspect`, from headers only.
struct checkpoint_summary {
    std::string architecture;
    std::int32_t layers = 0, experts = 0, top_k = 0;
    std::uint64_t bytes_total = 0;            ///< every tensor in the files
    std::uint64_t bytes_per_expert = 0;       ///< the largest routed expert, scales included
    std::uint64_t bytes_dense = 0;            ///< all that the main model reads but routed experts
    std::uint64_t bytes_active_per_token = 0; ///< read for one token: of the embedding one row, of the experts top_k
    std::map<std::string, std::uint64_t> bytes_by_type; ///< "BF16" -> bytes
    std::string expert_type;                            ///< of the first routed expert: "BF16", "F8_E4M3"
    std::string refusal; ///< why this build cannot compute from these weights; empty: it can
};
checkpoint_summary summarize(const checkpoint& model);

/// Reads config.json (text) of any supported architecture, in the Hub's spelling and in transformers 5's. Errors:
/// invalid_config (key, found, expected), unsupported. `generation_config` may be empty.
result<model_shape> read_model_config(std::string_view config_json, std::string_view generation_config_json,
                                      std::string_view name);

/// Bounds on dimensions: what is larger is absurd, not big. Errors: invalid_config.
result<void> check_shape(const model_shape& shape);

} // namespace moira
