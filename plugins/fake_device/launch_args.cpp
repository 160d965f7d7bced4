// What a launch carries: its size and which of its fields are device addresses.
#include "plugins/fake_device/fake_device.hpp"

#include <cstring>

namespace moira {

namespace {

struct args_shape {
    uint64_t bytes;
    std::vector<size_t> addresses;
};

#define AT(type, field) offsetof(moira_##type##_args, field)

args_shape shape_of(uint32_t op) {
    switch (op) {
    case MOIRA_OP_EMBEDDING:
        return {sizeof(moira_embedding_args), {AT(embedding, token_ids), AT(embedding, table), AT(embedding, out)}};
    case MOIRA_OP_RMSNORM:
        return {sizeof(moira_rmsnorm_args), {AT(rmsnorm, in), AT(rmsnorm, out), AT(rmsnorm, weight)}};
    case MOIRA_OP_ROPE:
        return {sizeof(moira_rope_args), {AT(rope, x), AT(rope, positions), AT(rope, table)}};
    case MOIRA_OP_KV_APPEND:
        return {sizeof(moira_kv_append_args), {AT(kv_append, in), AT(kv_append, slots), AT(kv_append, pool)}};
    case MOIRA_OP_ATTENTION_GQA:
    case MOIRA_OP_ATTENTION_MLA:
        return {sizeof(moira_attention_args),
                {AT(attention, q), AT(attention, row_table), AT(attention, kv) + offsetof(moira_kv_view, pool),
                 AT(attention, kv) + offsetof(moira_kv_view, page_table), AT(attention, weight), AT(attention, sinks),
                 AT(attention, out), AT(attention, workspace)}};
    case MOIRA_OP_GEMM:
        return {sizeof(moira_gemm_args),
                {AT(gemm, x), AT(gemm, weight), AT(gemm, bias), AT(gemm, out), AT(gemm, workspace)}};
    case MOIRA_OP_ROUTER_TOPK:
        return {sizeof(moira_router_topk_args),
                {AT(router_topk, logits), AT(router_topk, bias), AT(router_topk, ids), AT(router_topk, weights)}};
    case MOIRA_OP_EXPERT_FFN:
        return {sizeof(moira_expert_ffn_args),
                {AT(expert_ffn, x), AT(expert_ffn, table), AT(expert_ffn, group_table), AT(expert_ffn, pair_table),
                 AT(expert_ffn, out), AT(expert_ffn, workspace), AT(expert_ffn, group_count)}};
    case MOIRA_OP_EXPERT_GROUPS:
        return {sizeof(moira_expert_groups_args),
                {AT(expert_groups, ids), AT(expert_groups, generations), AT(expert_groups, group_table),
                 AT(expert_groups, pair_table), AT(expert_groups, group_count), AT(expert_groups, workspace)}};
    default:
        return {sizeof(moira_combine_args),
                {AT(combine, expert_out), AT(combine, weights), AT(combine, shared), AT(combine, residual)}};
    }
}

#undef AT

} // namespace

bool fake_device::owns(const void* address, uint64_t bytes) const {
    const auto at = reinterpret_cast<uintptr_t>(address);
    const auto after = memory.upper_bound(at);
    if (after == memory.begin())
        return false;
    const auto& [begin, buffer] = *std::prev(after);
    return at - begin < buffer.bytes && bytes <= buffer.bytes - (at - begin);
}

uint64_t fake_device::serial_of(const void* address) const {
    return owns(address, 1) ? std::prev(memory.upper_bound(reinterpret_cast<uintptr_t>(address)))->second.serial : 0;
}

uint64_t fake_device::memory_bytes_used() const {
    uint64_t used = 0;
    for (const auto& [address, buffer] : memory)
        used += buffer.bytes;
    return used;
}

moira_status take_args(const fake_device& device, const moira_launch& launch, any_op_args& args) {
    const uint32_t op = launch.op->desc.header.op;
    const args_shape shape = shape_of(op);
    args = any_op_args{};
    std::memcpy(&args, launch.args, shape.bytes);
    for (const size_t offset : shape.addresses) {
        const void* address = nullptr;
        std::memcpy(&address, reinterpret_cast<const char*>(&args) + offset, sizeof address);
        if (address && !device.owns(address, 1))
            return report(MOIRA_INVALID_ARGUMENT,
                          "op %u: the address at byte %zu of its arguments is not on the device", op, offset);
    }
    return MOIRA_OK;
}

std::vector<const void*> addresses_of(uint32_t op, const any_op_args& args) {
    std::vector<const void*> given;
    for (const size_t offset : shape_of(op).addresses) {
        const void* address = nullptr;
        std::memcpy(&address, reinterpret_cast<const char*>(&args) + offset, sizeof address);
        if (address)
            given.push_back(address);
    }
    return given;
}

uint64_t launch_amount(uint32_t op, const any_op_args& args) {
    return op == MOIRA_OP_EXPERT_FFN ? args.expert_ffn.pairs : args.embedding.rows; // all others begin with rows
}

} // namespace moira
