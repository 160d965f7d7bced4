#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/model/checkpoint.hpp"
#include "core/model/checksum_list.hpp"
#include "core/pack/expert_conversion.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// Where every expert begins in its file: what direct reads want (a page, and a multiple of every common device's
/// block), so that one read brings it without its neighbours.
inline constexpr std::uint64_t expert_alignment = 4096;

/// What becomes of experts: their bytes as they are, or E4M3 with a scale per block of 128 x 128 where they are wider.
enum class packed_precision { keep, fp8 };

enum class tensor_origin {
    copied,           ///< the source's bytes
    rounded,          ///< E4M3 values of `source`
    scales,           ///< and their scales
    padding,          ///< zeros
    converted,        ///< an expert, or its matrix `matrix`, in another form
    converted_scales, ///< the scales of that matrix
};

/// One tensor of a packed file.
struct packed_tensor {
    std::string name;
    tensor_type type = tensor_type::u8;
    std::vector<std::int64_t> shape;
    std::uint64_t offset = 0, bytes = 0; ///< from the start of the file's data
    tensor_origin origin = tensor_origin::padding;
    const tensor_location* source = nullptr; ///< of the checkpoint that was planned from; null: padding
    std::size_t matrix = 0;                  ///< 0, 1, 2: gate, up, down; where converted
};

/// What is written at once and has one checksum: an expert, or one other tensor.
struct packed_unit {
    std::optional<expert_id> expert;
    std::size_t first = 0, count = 0;    ///< tensors of its shard
    std::uint64_t offset = 0, bytes = 0; ///< from the start of the file's data
};

struct packed_shard {
    std::string file_name;              ///< "model-00001-of-00002.safetensors"
    std::vector<packed_tensor> tensors; ///< in the order of the file, padding included
    std::vector<packed_unit> units;     ///< in the order of the file
    std::uint64_t data_begin = 0, data_bytes = 0;

    std::uint64_t file_bytes() const noexcept { return data_begin + data_bytes; }
};

/// A whole packed model. Borrows from the checkpoint.
struct pack_plan {
    std::vector<packed_shard> shards;
    std::uint64_t units = 0, experts = 0;
    std::uint64_t file_bytes = 0;   ///< of all shards
    std::uint64_t expert_bytes = 0; ///< of all experts, without padding
    std::string quantized_from;     ///< "BF16" where experts are rounded; empty: nothing is
    model_weight_names names;       ///< of the checkpoint, prediction modules included
    planned_experts forms;
};

/// Order of the experts of each layer (of the model, then of its prediction modules); a layer without entry keeps the
/// numbers' order.
using expert_orders = std::vector<std::vector<std::uint32_t>>;

struct pack_wish {
    packed_precision experts = packed_precision::keep;
    std::uint64_t shard_bytes_max = 4'000'000'000; ///< of data; the Hub's usual size of a file
    expert_orders orders;
    const op_selector* layout = nullptr;         ///< see plan_experts: target
    const op_selector* source_plugins = nullptr; ///< see plan_experts: source
};

/// Lays the same tensors out anew, scales and prediction modules included: first all tensors that belong to no expert,
/// then the experts layer by layer, each with its tensors adjacent and its first byte at a multiple of
/// expert_alignment. Gaps are filled by tensors of their own (padding_prefix), since the format allows no holes. A
/// shard holds what fits into it, at least one unit. Errors: invalid_argument (orders that are no permutation, a shard
/// size of 0, more than a header holds), unsupported (experts whose type or blocks cannot be rounded), those of
/// plan_experts.
result<pack_plan> plan_pack(const checkpoint& model, const pack_wish& wish);

/// The bytes before the data of a shard. `hashes`: one per unit, in order. The same length for all hashes.
result<std::string> packed_prefix(const packed_shard& shard, std::span<const std::uint64_t> hashes,
                                  const pack_plan& plan);

/// Checksum over everything that decides about the bytes of a pack: the plan, and name, size and time of each source
/// file.
std::uint64_t plan_fingerprint(const pack_plan& plan, const checkpoint& model);

} // namespace moira
