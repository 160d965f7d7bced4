#pragma once

#include "core/base/error.hpp"
#include "core/model/safetensors.hpp"

#include <array>
#include <cstdint>
#include <span>

namespace moira {

/// Alignment of direct reads in file and memory: a multiple of every common device's logical block (512 or 4,096).
inline constexpr std::uint64_t read_alignment = 4096;

/// Tensors of one expert that lie at most this far apart in a file are read at once. A request of its own costs about
/// 0.1 to 0.3 ms on a disk of 1 GB/s, as much as reading 128 KiB or more of bytes that nobody wants.
inline constexpr std::uint64_t read_gap_bytes_max = 128 << 10;

/// One contiguous read. It lands in scratch so that file offset and scratch offset agree modulo read_alignment: the
/// same place serves buffered reads (exactly these bytes) and direct ones (widened to aligned borders).
struct expert_read {
    std::uint32_t file = 0;
    std::uint64_t offset = 0; ///< first wanted byte
    std::uint64_t bytes = 0;
    std::uint64_t scratch_offset = 0; ///< of the aligned window's begin, a multiple of read_alignment

    std::uint64_t window_begin() const noexcept { return offset / read_alignment * read_alignment; }
    std::uint64_t window_end() const noexcept;
};

/// gate, up and down, each with its scales.
inline constexpr std::size_t expert_tensors_max = 6;

/// How the tensors of one expert come into scratch.
struct expert_read_plan {
    std::array<expert_read, expert_tensors_max> reads{};
    std::uint32_t read_count = 0;
    std::array<std::uint64_t, expert_tensors_max> tensor_offsets{}; ///< in scratch, in the order asked
    std::uint64_t scratch_bytes = 0;                                ///< a multiple of read_alignment

    std::span<const expert_read> all_reads() const noexcept { return {reads.data(), read_count}; }
};

/// Plans the reads of at most expert_tensors_max tensors, at most one request each. Errors: corrupt_file (offsets that
/// overflow), invalid_argument (too many tensors).
result<expert_read_plan> plan_expert_read(std::span<const tensor_location* const> tensors);

} // namespace moira
