#include "core/model/packed_experts.hpp"

#include "core/base/checked.hpp"
#include "core/model/bounded_json.hpp"
#include "core/model/checkpoint_weight.hpp"
#include "core/model/fp8_quantizer.hpp"
#include "core/model/kernel_type.hpp"
#include "core/model/shown_name.hpp"

#include <array>
#include <limits>
#include <optional>

namespace moira {

namespace {

constexpr std::uint64_t form = 1; ///< of the record; a reader knows its own only

/// Of one packed expert: far more than any model's, and sums of a few stay within 64 bits.
constexpr std::uint64_t packed_bytes_max = 1ULL << 40;

/// Of either side of a matrix, as configurations bound them.
constexpr std::uint64_t side_max = 1ULL << 24;

constexpr std::size_t plugin_name_bytes_max = MOIRA_NAME_BYTES;

constexpr std::array weight_types = {tensor_type::f32, tensor_type::bf16, tensor_type::f16};

/// An unsigned number of a JSON object within bounds.
std::optional<std::uint64_t> number_in(const nlohmann::json& object, const char* key, std::uint64_t most) {
    const auto at = object.find(key);
    if (at == object.end() || !at->is_number_unsigned() || at->get<std::uint64_t>() > most)
        return std::nullopt;
    return at->get<std::uint64_t>();
}

std::string text_in(const nlohmann::json& object, const char* key) {
    const auto at = object.find(key);
    return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

bool is_plugin_name(const std::string& name) {
    return !name.empty() && name.size() < plugin_name_bytes_max &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
}

std::optional<moira_quantization> quantization_of(const nlohmann::json& object) {
    const auto weight = text_in(object, "weight_type"), mode = text_in(object, "scale_mode");
    if (weight == tensor_type_name(tensor_type::f8_e4m3)) {
        const bool blocks = mode == "block" && text_in(object, "scale_type") == tensor_type_name(tensor_type::f32) &&
                            number_in(object, "block_n", scale_block) == scale_block &&
                            number_in(object, "block_k", scale_block) == scale_block;
        return blocks ? std::optional(block_scaled_weight()) : std::nullopt;
    }
    for (const auto type : weight_types)
        if (weight == tensor_type_name(type) && mode == "none")
            return plain_weight(*kernel_type(type));
    return std::nullopt;
}

} // namespace

stored_layout::matrix stored_layout::matrix_of(std::size_t index) const {
    matrix made{index == 2 ? k : n, index == 2 ? n : k, 0, 0};
    made.weight_bytes = std::uint64_t{made.rows} * made.columns * tensor_type_bytes(weight_type());
    if (quantization.scale_mode != MOIRA_SCALE_NONE)
        made.scale_bytes = fp8_scale_bytes(made.rows, made.columns);
    return made;
}

std::uint64_t stored_layout::scale_bytes() const {
    return matrix_of(0).scale_bytes + matrix_of(1).scale_bytes + matrix_of(2).scale_bytes;
}

std::uint64_t stored_layout::tensor_bytes() const {
    return round_up(packed_bytes + scale_bytes(), packed_expert_alignment);
}

tensor_type stored_layout::weight_type() const {
    for (const auto type : weight_types)
        if (kernel_type(type) == quantization.weight_type)
            return type;
    return tensor_type::f8_e4m3;
}

bool stored_layout::operator==(const stored_layout& other) const noexcept {
    return layout_id == other.layout_id && n == other.n && k == other.k && packed_bytes == other.packed_bytes &&
           same_quantization(quantization, other.quantization);
}

std::string layout_name(const stored_layout& layout) {
    return "layout " + std::to_string(layout.layout_id) + " of " + layout.plugin;
}

std::string layout_text(const stored_layout& layout) {
    nlohmann::ordered_json record = {{"form", form},
                                     {"plugin", layout.plugin},
                                     {"layout_id", layout.layout_id},
                                     {"packed_bytes", layout.packed_bytes},
                                     {"n", layout.n},
                                     {"k", layout.k},
                                     {"weight_type", tensor_type_name(layout.weight_type())}};
    if (layout.quantization.scale_mode == MOIRA_SCALE_NONE) {
        record["scale_mode"] = "none";
    } else {
        record["scale_mode"] = "block";
        record["scale_type"] = tensor_type_name(tensor_type::f32);
        record["block_n"] = layout.quantization.block_n;
        record["block_k"] = layout.quantization.block_k;
    }
    return record.dump();
}

result<stored_layout> parse_layout(std::string_view text, std::string_view name) {
    const auto where = std::string(name) + ": " + std::string(expert_layout_key);
    const auto object = parse_json_object(text, where, errc::corrupt_file);
    if (!object)
        return tl::unexpected(object.error());
    if (number_in(*object, "form", std::numeric_limits<std::uint64_t>::max()) != form)
        return fail(errc::unsupported, where + " has a form that this version does not read: use a newer version, or " +
                                           "pack the model again");
    const auto quantization = quantization_of(*object);
    if (!quantization)
        return fail(errc::unsupported, where + " names weights that this build does not read: it reads BF16, F16 and " +
                                           "F32 without scales, and F8_E4M3 with F32 scales per 128 x 128 block");
    const auto layout_id = number_in(*object, "layout_id", std::numeric_limits<std::uint32_t>::max());
    const auto packed_bytes = number_in(*object, "packed_bytes", packed_bytes_max);
    const auto n = number_in(*object, "n", side_max), k = number_in(*object, "k", side_max);
    auto plugin = text_in(*object, "plugin");
    if (!layout_id || !packed_bytes || !n || !k || *packed_bytes == 0 || *n == 0 || *k == 0 || !is_plugin_name(plugin))
        return fail(errc::corrupt_file, where + " is not {form, plugin, layout_id, packed_bytes, n, k, ...} within " +
                                            "bounds: the file is damaged; copy it again, or pack the model again");
    return stored_layout{std::move(plugin),
                         static_cast<std::uint32_t>(*layout_id),
                         static_cast<std::uint32_t>(*n),
                         static_cast<std::uint32_t>(*k),
                         *packed_bytes,
                         *quantization};
}

result<void> check_packed_expert(const tensor_location& tensor, const stored_layout& layout) {
    const auto bytes = layout.tensor_bytes();
    if (tensor.type != tensor_type::u8 || tensor.bytes != bytes)
        return fail(errc::corrupt_file, "tensor " + shown_name(tensor.name) + " is " +
                                            std::string(tensor_type_name(tensor.type)) + " of " +
                                            std::to_string(tensor.bytes) + " bytes, expected U8 of " +
                                            std::to_string(bytes) + " for an expert in " + layout_name(layout));
    if (tensor.offset % packed_expert_alignment != 0)
        return fail(errc::corrupt_file, "tensor " + shown_name(tensor.name) + " begins at " +
                                            std::to_string(tensor.offset) + ", expected a multiple of " +
                                            std::to_string(packed_expert_alignment));
    return {};
}

} // namespace moira
