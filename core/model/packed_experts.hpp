#pragma once

#include "core/base/error.hpp"
#include "core/model/safetensors.hpp"
#include "plugins/moira_plugin.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace moira {

/// Key of a file's metadata under which stands how its experts lie in `*.packed` tensors.
inline constexpr std::string_view expert_layout_key = "moira.expert_layout";

/// Where an expert in a plugin's layout begins in its file, and what its length is a multiple of: what direct reads
/// want, so that one goes straight into a slot.
inline constexpr std::uint64_t packed_expert_alignment = 4096;

/// Experts that lie in the files as a plugin keeps them in memory. Each is one U8 tensor `*.packed`: what the plugin's
/// pack writes for MOIRA_PACK_EXPERT, then the F32 scales of gate, up and down as they were (for unpacking, which gives
/// weights only), then zeros.
struct stored_layout {
    std::string plugin;             ///< that wrote them; another one with the same layout id reads them too
    std::uint32_t layout_id = 0;    ///< see moira_pack_info
    std::uint32_t n = 0, k = 0;     ///< inner and hidden size
    std::uint64_t packed_bytes = 0; ///< see moira_pack_info
    moira_quantization quantization{};

    /// Of gate, up and down together; 0 without scales.
    std::uint64_t scale_bytes() const;

    /// Of the whole tensor.
    std::uint64_t tensor_bytes() const;

    /// gate, up, down: rows, columns, and bytes of their weights and scales in a checkpoint.
    struct matrix {
        std::uint32_t rows = 0, columns = 0;
        std::uint64_t weight_bytes = 0, scale_bytes = 0;
    };
    matrix matrix_of(std::size_t index) const;

    /// The checkpoint's type of the weights.
    tensor_type weight_type() const;

    bool operator==(const stored_layout& other) const noexcept;
};

/// "layout 197121 of cpu_avx512"
std::string layout_name(const stored_layout& layout);

/// The metadata's value: a JSON object.
std::string layout_text(const stored_layout& layout);

/// Reads it again; `name` is for the error. All sizes are within bounds: sums of a few do not overflow. Errors:
/// corrupt_file, unsupported (another form, types that no kernel reads).
result<stored_layout> parse_layout(std::string_view text, std::string_view name);

/// Whether a tensor can hold an expert of this layout: type, size, place. Errors: corrupt_file (names the tensor).
result<void> check_packed_expert(const tensor_location& tensor, const stored_layout& layout);

} // namespace moira
