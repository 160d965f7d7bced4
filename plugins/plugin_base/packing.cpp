#include "kernels/packed_layout.hpp"
#include "plugins/plugin_base/plugin_base.hpp"

#include <cstring>

namespace moira {

namespace {

constexpr uint64_t packed_alignment = 64; // a cache line, and one AVX-512 vector
constexpr uint32_t dimension_limit = 1u << 20;

moira_status check_mla(const moira_pack_desc& desc) {
    const uint64_t head_rows = uint64_t{desc.key_dim} + desc.value_dim;
    if (desc.heads == 0 || desc.key_dim == 0 || desc.value_dim == 0 || head_rows > dimension_limit ||
        desc.heads * head_rows != desc.n)
        return report(MOIRA_INVALID_ARGUMENT, "kv_b_proj has %u rows, expected heads %u * (key_dim %u + value_dim %u)",
                      desc.n, desc.heads, desc.key_dim, desc.value_dim);
    if (desc.quantization.scale_mode != MOIRA_SCALE_NONE)
        return report(MOIRA_UNSUPPORTED, "kv_b_proj with scales cannot be absorbed: widen it to BF16 or F32 first");
    return MOIRA_OK;
}

moira_status check_desc(const op_capabilities& plugin, const moira_pack_desc* desc) {
    if (!desc || desc->struct_size < sizeof *desc)
        return report(MOIRA_INVALID_ARGUMENT, "packing needs a moira_pack_desc with its struct_size");
    if (desc->n == 0 || desc->k == 0 || desc->n > dimension_limit || desc->k > dimension_limit)
        return report(MOIRA_INVALID_ARGUMENT, "a weight of [%u, %u] cannot be packed, expected 1 to %u each", desc->n,
                      desc->k, dimension_limit);
    const moira_quantization& quantization = desc->quantization;
    if (!plugin.weight_supported(quantization))
        return report(MOIRA_UNSUPPORTED, "%s cannot pack weight type %u with scale mode %u, scale type %u", plugin.name,
                      quantization.weight_type, quantization.scale_mode, quantization.scale_type);
    if (desc->compute == MOIRA_COMPUTE_LIBRARY && (desc->kind != MOIRA_PACK_GEMM || !plugin.gemm_library_supported))
        return report(MOIRA_UNSUPPORTED, "%s packs no such weights for a library", plugin.name);
    switch (desc->kind) {
    case MOIRA_PACK_GEMM:
    case MOIRA_PACK_EXPERT:
        return MOIRA_OK;
    case MOIRA_PACK_MLA_KV:
        return check_mla(*desc);
    default:
        return report(MOIRA_UNSUPPORTED, "there is no MOIRA_PACK_* with the value %u", desc->kind);
    }
}

// One matrix of a packed block and where it stands in its source.
struct matrix_place {
    uint32_t n;
    uint32_t k;
    uint32_t source;        // index into sources or weights
    uint64_t source_offset; // elements
    uint64_t row_stride;    // elements
    uint64_t column_stride; // elements
    uint64_t packed_offset; // bytes
};

template <class Function>
void for_mla_matrices(const packing_kernels& packing, const moira_pack_desc& desc, const Function& function) {
    const mla_layout layout = mla_layout_of(packing, desc.quantization, desc.k, desc.key_dim, desc.value_dim);
    for (uint64_t head = 0; head < desc.heads; ++head) {
        const uint64_t rows = head * (uint64_t{desc.key_dim} + desc.value_dim);
        const uint64_t packed = head * layout.head_bytes;
        function(matrix_place{desc.k, desc.key_dim, 0, rows * desc.k, 1, desc.k, packed});
        function(
            matrix_place{desc.value_dim, desc.k, 0, (rows + desc.key_dim) * desc.k, desc.k, 1, packed + layout.value});
    }
}

template <class Function>
void for_matrices(const packing_kernels& packing, const moira_pack_desc& desc, const Function& function) {
    if (desc.kind == MOIRA_PACK_GEMM)
        return function(matrix_place{desc.n, desc.k, 0, 0, desc.k, 1, 0});
    if (desc.kind == MOIRA_PACK_MLA_KV)
        return for_mla_matrices(packing, desc, function);
    const expert_layout layout = expert_layout_of(packing, desc.quantization, desc.k, desc.n);
    function(matrix_place{desc.n, desc.k, 0, 0, desc.k, 1, layout.gate});
    function(matrix_place{desc.n, desc.k, 1, 0, desc.k, 1, layout.up});
    function(matrix_place{desc.k, desc.n, 2, 0, desc.n, 1, layout.down});
}

uint64_t packed_bytes_of(const packing_kernels& packing, const moira_pack_desc& desc) {
    if (desc.kind == MOIRA_PACK_GEMM)
        return packing.matrix_bytes(desc.quantization, desc.n, desc.k);
    if (desc.kind == MOIRA_PACK_MLA_KV)
        return desc.heads * mla_layout_of(packing, desc.quantization, desc.k, desc.key_dim, desc.value_dim).head_bytes;
    return expert_layout_of(packing, desc.quantization, desc.k, desc.n).bytes;
}

uint32_t source_bytes(const moira_quantization& quantization) {
    return quantization.weight_type == MOIRA_TYPE_F32 ? 4 : quantization.weight_type == MOIRA_TYPE_F8_E4M3 ? 1 : 2;
}

void pack_expert_biases(const packing_kernels& packing, const moira_pack_desc& desc, const moira_pack_source* sources,
                        char* packed) {
    const expert_layout layout = expert_layout_of(packing, desc.quantization, desc.k, desc.n);
    std::memset(packed + layout.gate_bias, 0, layout.bytes - layout.gate_bias);
    const uint64_t offsets[] = {layout.gate_bias, layout.up_bias, layout.down_bias};
    const uint32_t counts[] = {desc.n, desc.n, desc.k};
    for (uint32_t part = 0; part < 3; ++part)
        if (sources[part].bias)
            std::memcpy(packed + offsets[part], sources[part].bias, counts[part] * sizeof(float));
}

uint32_t source_count(const moira_pack_desc& desc) {
    return desc.kind == MOIRA_PACK_EXPERT ? 3 : 1;
}

moira_status check_sources(const moira_pack_desc& desc, const moira_pack_source* sources) {
    for (uint32_t part = 0; part < source_count(desc); ++part) {
        if (!sources[part].weight)
            return report(MOIRA_INVALID_ARGUMENT, "source %u has no weight", part);
        if (desc.quantization.scale_mode != MOIRA_SCALE_NONE && !sources[part].scales)
            return report(MOIRA_INVALID_ARGUMENT, "source %u has no scales, which scale mode %u needs", part,
                          desc.quantization.scale_mode);
    }
    return MOIRA_OK;
}

} // namespace

moira_status query_packing(const op_capabilities& plugin, const packing_kernels& packing, const moira_pack_desc* desc,
                           moira_pack_info* info) {
    if (const moira_status status = check_desc(plugin, desc))
        return status;
    if (!info || info->struct_size < sizeof *info)
        return report(MOIRA_INVALID_ARGUMENT, "pack_query needs a moira_pack_info with its struct_size");
    info->packed_bytes = packed_bytes_of(packing, *desc);
    info->alignment = packed_alignment;
    info->scratch_bytes = 0;
    info->layout_id = packed_layout_id(packing.layout_base, desc->kind, desc->quantization);
    info->reserved = 0;
    return MOIRA_OK;
}

moira_status pack_weights(const op_capabilities& plugin, const packing_kernels& packing, const moira_pack_desc* desc,
                          const moira_pack_source* sources, void* packed) {
    if (const moira_status status = check_desc(plugin, desc))
        return status;
    if (!sources || !packed)
        return report(MOIRA_INVALID_ARGUMENT, "pack needs sources and a place for the packed bytes");
    if (const moira_status status = check_sources(*desc, sources))
        return status;
    const uint32_t element = source_bytes(desc->quantization);
    for_matrices(packing, *desc, [&](const matrix_place& place) {
        const moira_pack_source& source = sources[place.source];
        packing.pack_matrix(desc->quantization, place.n, place.k,
                            static_cast<const char*>(source.weight) + place.source_offset * element, place.row_stride,
                            place.column_stride, source.scales, static_cast<char*>(packed) + place.packed_offset);
    });
    if (desc->kind == MOIRA_PACK_EXPERT)
        pack_expert_biases(packing, *desc, sources, static_cast<char*>(packed));
    return MOIRA_OK;
}

moira_status unpack_weights(const op_capabilities& plugin, const packing_kernels& packing, const moira_pack_desc* desc,
                            const void* packed, void* const* weights) {
    if (const moira_status status = check_desc(plugin, desc))
        return status;
    if (!packed || !weights)
        return report(MOIRA_INVALID_ARGUMENT, "unpack needs the packed bytes and places for the weights");
    for (uint32_t part = 0; part < source_count(*desc); ++part)
        if (!weights[part])
            return report(MOIRA_INVALID_ARGUMENT, "unpack has no place for weight %u", part);
    const uint32_t element = source_bytes(desc->quantization);
    for_matrices(packing, *desc, [&](const matrix_place& place) {
        packing.unpack_matrix(desc->quantization, place.n, place.k,
                              static_cast<const char*>(packed) + place.packed_offset,
                              static_cast<char*>(weights[place.source]) + place.source_offset * element,
                              place.row_stride, place.column_stride);
    });
    return MOIRA_OK;
}

} // namespace moira
