#pragma once

#include "core/experts/huge_page_buffer.hpp"
#include "core/pack/pack_plan.hpp"

#include <array>
#include <span>
#include <vector>

namespace moira {

/// Turns experts from one form into another: unpacks, rounds, packs. One per thread; its memory is an expert in both
/// forms.
class expert_converter {
public:
    /// Both outlive the converter. Precondition: plan.forms.conversion.
    expert_converter(const checkpoint& source, const pack_plan& plan) : source_(source), plan_(plan) {}

    struct converted {
        std::span<const std::byte> bytes; ///< of the whole unit, until the next call
        double error_max = 0;             ///< of rounding; 0: nothing was rounded
    };

    /// Precondition: a unit of an expert of the plan. Errors: io_error, corrupt_file (infinite weights; packed bytes
    /// that the plugin would not have written), device_error, out_of_memory.
    result<converted> convert(const packed_shard& shard, const packed_unit& unit);

private:
    /// gate, up or down as a checkpoint holds it.
    struct matrix {
        std::vector<std::byte> weight, scales;
    };

    result<void> read_plain(const ffn_weight_names& names);
    result<void> read_packed(const ffn_weight_names& names);
    result<double> round(const ffn_weight_names& names);
    result<void> pack(const packed_form& form, std::span<std::byte> into);
    result<void> unpack(const packed_form& form, std::span<const std::byte> packed);
    void put_together(const packed_shard& shard, const packed_unit& unit);

    const checkpoint& source_;
    const pack_plan& plan_;
    std::array<matrix, 3> matrices_;
    huge_page_buffer packed_, repacked_;
    std::vector<std::byte> scratch_, plain_;
};

} // namespace moira
