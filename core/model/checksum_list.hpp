#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// What a packed file says of a range of its bytes: an expert's tensors together, or one other tensor.
struct checksum_range {
    std::uint64_t offset = 0; ///< from the start of the file
    std::uint64_t bytes = 0;
    std::uint64_t hash = 0; ///< content_hash of the bytes
};

/// Key of the metadata under which `moira pack` writes them.
inline constexpr std::string_view checksums_key = "moira.checksums";

/// Key of the index's metadata: {file name: checksum of all that stands before the file's data}.
inline constexpr std::string_view header_checksums_key = "moira_header_checksums";

/// Tensors that only fill the space before an aligned one begin with this; readers pass over them.
inline constexpr std::string_view padding_prefix = "moira.padding.";

/// "1;0,9437184,00f3...;9437184,...": the form's version, then begin, bytes and hash of each range, begins from the
/// start of the data. As long for one set of hashes as for any other.
std::string checksums_text(std::span<const checksum_range> ranges, std::uint64_t data_begin);

/// Reads it again; `name` is for the error. Ranges ascend, do not overlap and lie in the file. Errors: corrupt_file,
/// unsupported (another version).
result<std::vector<checksum_range>> parse_checksums(std::string_view text, std::uint64_t data_begin,
                                                    std::uint64_t file_bytes, std::string_view name);

/// The range that holds all of [offset, offset + bytes), if there is one.
const checksum_range* covering_range(std::span<const checksum_range> ranges, std::uint64_t offset,
                                     std::uint64_t bytes) noexcept;

/// Compares. `what` names the content ("expert 3 of layer 2"), `file` its file. Errors: corrupt_file.
result<void> check_content(const checksum_range& range, std::span<const std::byte> content, std::string_view what,
                           std::string_view file);

/// The error of check_content.
error damaged_content(const checksum_range& range, std::uint64_t found, std::string_view what, std::string_view file);

} // namespace moira
