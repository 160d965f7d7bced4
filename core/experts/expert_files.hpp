#pragma once

#include "core/experts/checkpoint_slab_source.hpp"
#include "core/experts/model_file_reader.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace moira {

/// Opens all files of a checkpoint for reading its experts, `total` bytes (none: more than can be counted), and says
/// which way was chosen and why. `checksummed`: whether the bytes will be compared.
std::string open_expert_files(const checkpoint& model, expert_io io, std::optional<std::uint64_t> total,
                              bool checksummed, model_file_reader& files);

} // namespace moira
