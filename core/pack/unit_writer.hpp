#pragma once

#include "core/base/output_file.hpp"
#include "core/pack/expert_converter.hpp"
#include "core/pack/pack_plan.hpp"

#include <atomic>
#include <span>
#include <vector>

namespace moira {

/// What writing a unit told.
struct written_unit {
    std::uint64_t hash = 0;
    double error_max = 0; ///< of rounding; 0: nothing was rounded
};

/// Largest distance of a rounded matrix [n, k] from its source, each weight's relative to the largest magnitude in its
/// block of 128 x 128: at most 1/28, half a step of the largest binade (16 of 448). `source` is of a kernel type.
/// Precondition: the sizes fit.
double rounding_error(std::uint32_t source_type, std::span<const std::byte> source, std::uint32_t n, std::uint32_t k,
                      std::span<const std::byte> weight, std::span<const std::byte> scales);

/// Makes units: reads from the checkpoint, rounds or converts where the plan says so, writes. One per thread; its
/// memory is one rounded expert, a converter's, or a few MiB.
class unit_writer {
public:
    /// `written_bytes` grows while it works; once `stopped` it gives up with `cancelled`. All outlive the writer.
    unit_writer(const checkpoint& source, const pack_plan& plan, std::atomic<std::uint64_t>& written_bytes,
                const std::atomic<bool>& stopped)
        : source_(source), written_bytes_(written_bytes), stopped_(stopped), converter_(source, plan) {}

    /// Errors: io_error, corrupt_file (a source that is damaged, or holds infinite weights), cancelled,
    /// those of expert_converter.
    result<written_unit> write(const packed_shard& shard, const packed_unit& unit, const output_file& file);

private:
    result<void> verify_source(std::span<const packed_tensor> tensors) const;
    result<std::uint64_t> copy(const packed_shard& shard, std::span<const packed_tensor> tensors,
                               const output_file& file);
    result<double> round_matrix(const packed_tensor& rounded, const packed_tensor& scales, std::uint64_t unit_offset);
    result<double> assemble(std::span<const packed_tensor> tensors, const packed_unit& unit);
    result<void> put(const packed_shard& shard, std::uint64_t offset, std::span<const std::byte> bytes,
                     const output_file& file);
    std::span<std::byte> place_of(const packed_tensor& tensor, std::uint64_t unit_offset) {
        return std::span(assembled_).subspan(tensor.offset - unit_offset, tensor.bytes);
    }

    const checkpoint& source_;
    std::atomic<std::uint64_t>& written_bytes_;
    const std::atomic<bool>& stopped_;
    expert_converter converter_;
    std::vector<std::byte> piece_, assembled_;
};

} // namespace moira
