#include "plugins/conformance/checks.hpp"

#include <cstdint>
#include <map>

namespace moira {
namespace {

/// In no enumeration of the interface.
constexpr std::uint32_t no_such = 77;

/// Fields that must be neither 0 nor absurd, by op: every one is a u32.
struct named_field {
    const char* name;
    std::size_t offset;
};

#define FIELD(type, field)                                                                                             \
    named_field {                                                                                                      \
#field, offsetof(moira_##type##_desc, field)                                                                   \
    }

std::vector<named_field> dimensions_of(std::uint32_t op) {
    switch (op) {
    case MOIRA_OP_EMBEDDING:
        return {FIELD(embedding, vocabulary), FIELD(embedding, width)};
    case MOIRA_OP_RMSNORM:
        return {FIELD(rmsnorm, width)};
    case MOIRA_OP_ROPE:
        return {FIELD(rope, heads), FIELD(rope, width), FIELD(rope, positions)};
    case MOIRA_OP_KV_APPEND:
        return {FIELD(kv_append, width), FIELD(kv_append, slots)};
    case MOIRA_OP_ATTENTION_GQA:
        return {FIELD(attention_gqa, heads),       FIELD(attention_gqa, kv_heads), FIELD(attention_gqa, head_dim),
                FIELD(attention_gqa, page_tokens), FIELD(attention_gqa, pages),    FIELD(attention_gqa, context_max)};
    case MOIRA_OP_ATTENTION_MLA:
        return {FIELD(attention_mla, heads),      FIELD(attention_mla, key_dim), FIELD(attention_mla, value_dim),
                FIELD(attention_mla, kv_rank),    FIELD(attention_mla, pages),   FIELD(attention_mla, page_tokens),
                FIELD(attention_mla, context_max)};
    case MOIRA_OP_GEMM:
        return {FIELD(gemm, n), FIELD(gemm, k)};
    case MOIRA_OP_ROUTER_TOPK:
        return {FIELD(router_topk, experts), FIELD(router_topk, top_k), FIELD(router_topk, groups)};
    case MOIRA_OP_EXPERT_FFN:
        return {FIELD(expert_ffn, hidden), FIELD(expert_ffn, inner), FIELD(expert_ffn, experts)};
    case MOIRA_OP_EXPERT_GROUPS:
        return {FIELD(expert_groups, experts), FIELD(expert_groups, top_k)};
    default:
        return {FIELD(combine, width)};
    }
}

#undef FIELD

void set_u32(std::vector<std::byte>& desc, std::size_t offset, std::uint32_t value) {
    std::memcpy(desc.data() + offset, &value, sizeof value);
}

/// Neither query nor prepare may accept it, and prepare may leave no op behind.
void expect_refused(const op_provider& tested, const std::vector<std::byte>& desc, const std::string& subject,
                    const std::string& what, check_log& log) {
    const auto& header = *reinterpret_cast<const moira_op_header*>(desc.data());
    moira_op* op = nullptr;
    std::uint64_t workspace_bytes = 0;
    const moira_status prepared = tested.api->op_prepare(tested.device, &header, &op, &workspace_bytes);
    if (prepared == MOIRA_OK)
        tested.api->op_destroy(op);
    moira_op_support support{};
    support.struct_size = sizeof support;
    const moira_status queried = tested.api->op_query(tested.device, &header, &support);
    const bool promised = queried == MOIRA_OK && support.score > 0;
    const bool named = prepared == MOIRA_UNSUPPORTED || prepared == MOIRA_INVALID_ARGUMENT;
    log.expect(named && !promised, subject, "prepare",
               what + ": op_prepare returned " + std::to_string(prepared) + (promised ? ", op_query said yes" : ""));
}

void check_descriptor(const op_provider& tested, const op_case& each, check_log& log) {
    const std::string subject = op_name(each.header().op);
    const auto with = [&](std::size_t offset, std::uint32_t value) {
        std::vector<std::byte> desc = each.desc;
        set_u32(desc, offset, value);
        return desc;
    };
    const auto size = static_cast<std::uint32_t>(each.header().struct_size);
    const std::size_t size_at = offsetof(moira_op_header, struct_size);
    for (const std::uint32_t wrong : {0u, 1u, size - 1, size - 8})
        expect_refused(tested, with(size_at, wrong), subject, "struct_size " + std::to_string(wrong), log);
    std::vector<named_field> fields = dimensions_of(each.header().op);
    fields.push_back({"rows_max", offsetof(moira_op_header, rows_max)});
    for (const named_field& field : fields) {
        for (const std::uint32_t wrong : {0u, 0x80000000u, UINT32_MAX})
            expect_refused(tested, with(field.offset, wrong), subject,
                           std::string(field.name) + " = " + std::to_string(wrong), log);
    }
    for (const std::uint32_t wrong : {std::uint32_t{MOIRA_OP_COUNT}, UINT32_MAX})
        expect_refused(tested, with(offsetof(moira_op_header, op), wrong), subject, "op " + std::to_string(wrong), log);
}

template <class Desc, class Change>
void expect_changed_refused(const op_provider& tested, const op_case& each, const char* what, Change change,
                            check_log& log) {
    Desc desc{};
    std::memcpy(&desc, each.desc.data(), sizeof desc);
    change(desc);
    expect_refused(tested, desc_bytes(desc), op_name(each.header().op), what, log);
}

/// Dimensions that contradict each other, and numbers outside their enumerations.
void check_contradictions(const op_provider& tested, const op_case& each, check_log& log) {
    switch (each.header().op) {
    case MOIRA_OP_EMBEDDING:
        expect_changed_refused<moira_embedding_desc>(
            tested, each, "unknown weight_type", [](auto& desc) { desc.weight_type = no_such; }, log);
        break;
    case MOIRA_OP_ROPE:
        expect_changed_refused<moira_rope_desc>(
            tested, each, "odd width", [](auto& desc) { desc.width = 7; }, log);
        break;
    case MOIRA_OP_KV_APPEND:
        expect_changed_refused<moira_kv_append_desc>(
            tested, each, "unknown kv_type", [](auto& desc) { desc.kv_type = no_such; }, log);
        break;
    case MOIRA_OP_ATTENTION_GQA:
        expect_changed_refused<moira_attention_gqa_desc>(
            tested, each, "heads no multiple of kv_heads", [](auto& desc) { desc.heads = 5, desc.kv_heads = 2; }, log);
        break;
    case MOIRA_OP_ATTENTION_MLA:
        expect_changed_refused<moira_attention_mla_desc>(
            tested, each, "unknown weight type", [](auto& desc) { desc.quantization.weight_type = no_such; }, log);
        break;
    case MOIRA_OP_GEMM:
        expect_changed_refused<moira_gemm_desc>(
            tested, each, "unknown weight type", [](auto& desc) { desc.quantization.weight_type = no_such; }, log);
        expect_changed_refused<moira_gemm_desc>(
            tested, each, "unknown scale mode", [](auto& desc) { desc.quantization.scale_mode = no_such; }, log);
        break;
    case MOIRA_OP_ROUTER_TOPK:
        expect_changed_refused<moira_router_topk_desc>(
            tested, each, "top_k over experts", [](auto& desc) { desc.top_k = desc.experts + 1; }, log);
        expect_changed_refused<moira_router_topk_desc>(
            tested, each, "groups that do not divide experts", [](auto& desc) { desc.experts = 9, desc.groups = 2; },
            log);
        expect_changed_refused<moira_router_topk_desc>(
            tested, each, "unknown scoring", [](auto& desc) { desc.scoring = no_such; }, log);
        break;
    case MOIRA_OP_EXPERT_FFN:
        expect_changed_refused<moira_expert_ffn_desc>(
            tested, each, "unknown activation", [](auto& desc) { desc.activation = no_such; }, log);
        expect_changed_refused<moira_expert_ffn_desc>(
            tested, each, "unknown weight type", [](auto& desc) { desc.quantization.weight_type = no_such; }, log);
        break;
    default:
        break;
    }
}

} // namespace

void check_rejections(const op_provider& tested, const std::vector<op_case>& cases, check_log& log) {
    std::map<std::uint32_t, const op_case*> first_of_op; // that the plugin supports; null: none
    for (const op_case& each : cases) {
        moira_op_support support{};
        support.struct_size = sizeof support;
        auto& first = first_of_op[each.header().op];
        if (!first && tested.api->op_query(tested.device, &each.header(), &support) == MOIRA_OK && support.score > 0)
            first = &each;
    }
    for (const auto& [op, each] : first_of_op) {
        if (!each) {
            log.skip(op_name(op), "prepare", "not supported");
            continue;
        }
        check_descriptor(tested, *each, log);
        check_contradictions(tested, *each, log);
    }
}

} // namespace moira
