#pragma once

#include "core/base/read_only_file.hpp"
#include "core/model/checksum_list.hpp"
#include "core/model/packed_experts.hpp"
#include "core/model/safetensors.hpp"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// The weight files of a folder, open, and every tensor in them.
struct checkpoint_files {
    std::vector<read_only_file> files;
    std::map<std::string, tensor_location, std::less<>> tensors; ///< padding aside
    std::vector<std::vector<checksum_range>> checksums;          ///< [files]; empty where a file has none
    std::optional<stored_layout> layout;                         ///< of `*.packed` experts, where some file holds them
};

/// Opens model.safetensors, or else the shards that model.safetensors.index.json names. Errors: not_found, io_error,
/// corrupt_file (an index that names files outside the folder, a tensor in two shards or in none, a header that is not
/// the one whose checksum the index holds, files that disagree about the experts' layout), unsupported.
result<checkpoint_files> open_checkpoint_files(const std::filesystem::path& folder);

} // namespace moira
