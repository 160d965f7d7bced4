#pragma once

#include "core/base/error.hpp"
#include "core/pack/pack_plan.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// Text of model.safetensors.index.json. `header_hashes`: content_hash of all before the data, one per shard. Padding
/// is not listed: readers that follow the index never see it.
std::string packed_index_json(const pack_plan& plan, const std::vector<std::uint64_t>& header_hashes);

/// The config.json of the pack. Where experts were rounded: quantization_config in the form of FP8 checkpoints, with
/// every other linear layer under modules_to_not_convert, and moira_pack.quantized_from. moira_pack.layout tells people
/// what the files' metadata tell programs. All else stays, byte for byte where nothing changes. Errors: invalid_config.
result<std::string> packed_config_json(std::string_view config_json, const checkpoint& model, const pack_plan& plan,
                                       double error_max);

/// Files beside the weights that go along: everything in the folder itself that is no weights and at most
/// side_file_bytes_max large, and the files in additional_chat_templates. Relative to the folder, sorted. Errors:
/// io_error.
inline constexpr std::uint64_t side_file_bytes_max = 64'000'000; ///< the largest tokenizer.json has some 35 MB
inline constexpr std::size_t side_files_max = 1'000;             ///< more is no model folder
result<std::vector<std::filesystem::path>> side_files(const std::filesystem::path& folder);

} // namespace moira
