#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/experts/expert_read_plan.hpp"
#include "core/experts/model_file_reader.hpp"
#include "core/model/checkpoint.hpp"

#include <span>
#include <string>
#include <vector>

namespace moira {

/// A range of a read whose hash the file holds.
struct checked_range {
    checksum_range range;
    std::uint32_t read = 0;           ///< of the plan
    std::uint64_t scratch_offset = 0; ///< of its first byte
};

/// Where an expert lies in the files: how it is read, and what they say of the bytes.
struct expert_file_place {
    expert_read_plan plan;
    std::vector<checked_range> checksums; ///< empty: the file has none
    std::string name;                     ///< of its first tensor, for messages
};

/// The ranges that a plan reads whole: all of the expert where `moira pack` wrote the file, usually one; none
/// elsewhere.
std::vector<checked_range> checked_ranges(const checkpoint& model, const expert_read_plan& plan);

/// Compares what was read. Where it differs, the range is read once more, past the page cache: what was damaged on its
/// way here is whole then. Errors: corrupt_file (names expert, tensors, file and offset), io_error.
result<void> check_expert_content(const model_file_reader& files, const expert_read_plan& plan,
                                  std::span<const checked_range> ranges, std::string_view what,
                                  std::span<std::byte> scratch);

/// Reads an expert and compares: where it is one read with one checksum, hashing goes along with reading. Errors:
/// io_error, corrupt_file.
result<void> read_expert(const model_file_reader& files, const expert_file_place& place, expert_id expert,
                         std::span<std::byte> scratch);

} // namespace moira
