#pragma once

#include "core/model/safetensors.hpp"

namespace moira {

/// A tensor as a header describes it.
struct tensor_entry {
    std::string_view name;
    tensor_type type = tensor_type::f32;
    std::span<const std::int64_t> shape;
    std::uint64_t bytes = 0;
};

/// What stands before the data of a .safetensors file: the length field and the header, padded so that the data begin
/// at a multiple of `data_alignment_bytes` (at least 8). The data follow in the order of `tensors`, without gaps.
/// Errors: invalid_argument (larger than any reader accepts).
result<std::string> safetensors_prefix(const std::vector<tensor_entry>& tensors,
                                       const std::map<std::string, std::string>& metadata,
                                       std::uint64_t data_alignment_bytes = 8);

} // namespace moira
