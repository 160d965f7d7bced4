#include "core/pack/unit_writer.hpp"

#include "core/base/float_formats.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/content_hash.hpp"
#include "core/model/fp8_quantizer.hpp"
#include "core/model/kernel_type.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

namespace moira {

namespace {

/// Read and written at a time; larger pieces are no faster.
constexpr std::uint64_t piece_bytes_max = std::uint64_t{4} << 20;

/// One block of `values` and what became of it.
double block_error(std::span<const float> values, std::span<const float> rounded, std::size_t stride, std::size_t rows,
                   std::size_t columns) {
    float largest = 0, distance = 0;
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t column = 0; column < columns; ++column) {
            const std::size_t at = row * stride + column;
            largest = std::max(largest, std::fabs(values[at]));
            distance = std::max(distance, std::fabs(values[at] - rounded[at]));
        }
    return largest > 0 ? static_cast<double>(distance) / static_cast<double>(largest) : 0;
}

} // namespace

double rounding_error(std::uint32_t source_type, std::span<const std::byte> source, std::uint32_t n, std::uint32_t k,
                      std::span<const std::byte> weight, std::span<const std::byte> scales) {
    std::vector<float> values(std::size_t{n} * k), rounded(std::size_t{n} * k);
    widen_to_f32(source_type, source, values);
    widen_block_scaled(weight, scales, n, k, rounded);
    double largest = 0;
    for (std::size_t row = 0; row < n; row += scale_block)
        for (std::size_t column = 0; column < k; column += scale_block) {
            const std::size_t begin = row * k + column;
            largest = std::max(largest, block_error(std::span(values).subspan(begin), std::span(rounded).subspan(begin),
                                                    k, std::min<std::size_t>(scale_block, n - row),
                                                    std::min<std::size_t>(scale_block, k - column)));
        }
    return largest;
}

result<void> unit_writer::put(const packed_shard& shard, std::uint64_t offset, std::span<const std::byte> bytes,
                              const output_file& file) {
    if (const int failure = file.write_at(shard.data_begin + offset, bytes); failure != 0)
        return fail(errc::io_error, shard.file_name + " cannot be written: " + std::strerror(failure));
    file.begin_flush(shard.data_begin + offset, bytes.size());
    written_bytes_ += bytes.size();
    return {};
}

result<std::uint64_t> unit_writer::copy(const packed_shard& shard, std::span<const packed_tensor> tensors,
                                        const output_file& file) {
    content_hasher hasher;
    piece_.resize(piece_bytes_max);
    for (const auto& tensor : tensors)
        for (std::uint64_t done = 0; done < tensor.bytes;) {
            if (stopped_)
                return fail(errc::cancelled, "interrupted");
            const auto piece = std::span(piece_).first(std::min(piece_bytes_max, tensor.bytes - done));
            if (auto read = source_.read_part(*tensor.source, done, piece); !read)
                return tl::unexpected(read.error());
            hasher.add(piece);
            if (auto written = put(shard, tensor.offset + done, piece, file); !written)
                return tl::unexpected(written.error());
            done += piece.size();
        }
    return hasher.value();
}

/// Strip by strip of one block's rows: each block is rounded by itself, so that the bytes are those of the whole.
result<double> unit_writer::round_matrix(const packed_tensor& rounded, const packed_tensor& scales,
                                         std::uint64_t unit_offset) {
    const auto& from = *rounded.source;
    const auto type = *kernel_type(from.type);
    const auto n = static_cast<std::uint32_t>(from.shape[0]), k = static_cast<std::uint32_t>(from.shape[1]);
    const std::uint64_t row_bytes = std::uint64_t{k} * tensor_type_bytes(from.type);
    const std::uint64_t scale_row_bytes = fp8_scale_bytes(1, k);
    const auto weights_place = place_of(rounded, unit_offset), scales_place = place_of(scales, unit_offset);
    double error_max = 0;
    for (std::uint32_t row = 0; row < n; row += scale_block) {
        const auto rows = std::min(scale_block, n - row);
        piece_.resize(rows * row_bytes);
        if (auto read = source_.read_part(from, row * row_bytes, piece_); !read)
            return tl::unexpected(read.error());
        const auto weight = weights_place.subspan(std::uint64_t{row} * k, std::uint64_t{rows} * k);
        const auto scale = scales_place.subspan(row / scale_block * scale_row_bytes, scale_row_bytes);
        if (auto done = quantize_to_fp8(type, piece_, rows, k, weight, scale); !done)
            return fail(done.error().code,
                        "tensor " + from.name + ", rows from " + std::to_string(row) + ": " + done.error().message);
        error_max = std::max(error_max, rounding_error(type, piece_, rows, k, weight, scale));
    }
    return error_max;
}

result<double> unit_writer::assemble(std::span<const packed_tensor> tensors, const packed_unit& unit) {
    assembled_.resize(unit.bytes);
    double error_max = 0;
    for (const auto& tensor : tensors) {
        if (stopped_)
            return fail(errc::cancelled, "interrupted");
        if (tensor.origin == tensor_origin::copied) {
            if (auto read = source_.read_part(*tensor.source, 0, place_of(tensor, unit.offset)); !read)
                return tl::unexpected(read.error());
        } else if (tensor.origin == tensor_origin::rounded) {
            const auto scales = std::find_if(tensors.begin(), tensors.end(), [&](const packed_tensor& other) {
                return other.origin == tensor_origin::scales && other.source == tensor.source;
            });
            const auto error = round_matrix(tensor, *scales, unit.offset);
            if (!error)
                return error;
            error_max = std::max(error_max, *error);
        }
    }
    return error_max;
}

/// A source that was packed itself: its damage must not get a new checksum.
result<void> unit_writer::verify_source(std::span<const packed_tensor> tensors) const {
    const checksum_range* verified = nullptr;
    for (const auto& tensor : tensors) {
        const auto& from = *tensor.source;
        const auto* range = covering_range(source_.checksums(from.file), from.offset, from.bytes);
        if (!range || range == verified)
            continue;
        if (auto fine = source_.verify(from); !fine)
            return fine;
        verified = range;
    }
    return {};
}

result<written_unit> unit_writer::write(const packed_shard& shard, const packed_unit& unit, const output_file& file) {
    const auto tensors = std::span(shard.tensors).subspan(unit.first, unit.count);
    if (auto fine = verify_source(tensors); !fine)
        return tl::unexpected(fine.error());
    if (tensors.front().source && tensors.front().origin >= tensor_origin::converted) {
        const auto made = converter_.convert(shard, unit);
        if (!made)
            return tl::unexpected(made.error());
        if (auto written = put(shard, unit.offset, made->bytes, file); !written)
            return tl::unexpected(written.error());
        return written_unit{content_hash(made->bytes), made->error_max};
    }
    const bool rounds = std::any_of(tensors.begin(), tensors.end(),
                                    [](const auto& tensor) { return tensor.origin != tensor_origin::copied; });
    if (!rounds)
        return copy(shard, tensors, file).map([](std::uint64_t hash) { return written_unit{hash, 0}; });
    const auto error_max = assemble(tensors, unit);
    if (!error_max)
        return tl::unexpected(error_max.error());
    if (auto written = put(shard, unit.offset, assembled_, file); !written)
        return tl::unexpected(written.error());
    return written_unit{content_hash(assembled_), *error_max};
}

} // namespace moira
