#pragma once

#include "core/base/error.hpp"
#include "core/base/read_only_file.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

enum class tensor_type { f32, f16, bf16, f8_e4m3, f8_e5m2, f64, i64, i32, i16, i8, u8, boolean };

std::string_view tensor_type_name(tensor_type type) noexcept; ///< safetensors' spelling: "BF16"
std::size_t tensor_type_bytes(tensor_type type) noexcept;

/// Limits on what a file may claim. Safetensors' own limit on the header is 100 MB.
struct safetensors_limits {
    std::uint64_t header_bytes_max = 100'000'000;
    std::size_t tensors_max = 1'000'000; ///< DeepSeek-V3 has 91,991
    std::size_t dimensions_max = 8;
};

/// Where one tensor lies. Offsets are absolute in the file and have been checked against its size, the dtype and the
/// shape.
struct tensor_location {
    std::string name;
    tensor_type type = tensor_type::f32;
    std::vector<std::int64_t> shape;
    std::uint32_t file = 0;   ///< index into checkpoint::files()
    std::uint64_t offset = 0; ///< from the start of the file
    std::uint64_t bytes = 0;

    std::uint64_t elements() const noexcept;
};

/// The header of one .safetensors file: tensors by name, checked: no overlap, nothing out of range, bytes = shape x
/// type.
struct safetensors_header {
    std::map<std::string, tensor_location, std::less<>> tensors;
    std::map<std::string, std::string, std::less<>> metadata;
    std::uint64_t data_begin = 0; ///< where the first tensor begins, from the start of the file
};

/// Parses the first bytes of a file of `file_bytes`. `prefix` holds at least 8 + header length bytes. Errors:
/// corrupt_file, unsupported (an unknown dtype).
result<safetensors_header> parse_safetensors_header(std::span<const std::byte> prefix, std::uint64_t file_bytes,
                                                    std::string_view name, const safetensors_limits& limits = {});

/// Reads only the header of a file. Errors: not_found, io_error, corrupt_file, unsupported.
result<safetensors_header> read_safetensors_header(const std::filesystem::path& file,
                                                   const safetensors_limits& limits = {});

/// As for a path, from a file that stays open. Errors: io_error, corrupt_file, unsupported.
result<safetensors_header> read_safetensors_header(const read_only_file& file, const safetensors_limits& limits = {});

/// A tensor to be written; borrows its bytes.
struct tensor_to_write {
    std::string name;
    tensor_type type = tensor_type::f32;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> bytes;
};

/// Writes a file that every other tool can open: data 8-byte aligned, written to a temporary name and renamed. Errors:
/// io_error, invalid_argument (bytes do not match the shape).
result<void> write_safetensors(const std::filesystem::path& file, const std::vector<tensor_to_write>& tensors,
                               const std::map<std::string, std::string>& metadata = {});

} // namespace moira
