// Queries, preparation and launches.
#include "kernels/packed_layout.hpp"
#include "plugins/cuda_runtime/cuda_runtime.hpp"

#include <cstdio>

namespace moira {

namespace {

constexpr const char* op_names[MOIRA_OP_COUNT] = {"embedding",     "rmsnorm",       "rope",         "kv_append",
                                                  "attention_gqa", "attention_mla", "gemm",         "router_topk",
                                                  "expert_ffn",    "combine",       "expert_groups"};

bool by_library(const any_op_desc& desc) {
    return desc.header.op == MOIRA_OP_GEMM && desc.gemm.compute == MOIRA_COMPUTE_LIBRARY;
}

// Calls function(op of the table, descriptor of its type, null pointer to its arguments' type).
template <class Function>
auto with_op(const cuda_kernels& kernels, const any_op_desc& desc, const Function& function) {
    switch (desc.header.op) {
    case MOIRA_OP_EMBEDDING:
        return function(kernels.embedding, desc.embedding);
    case MOIRA_OP_RMSNORM:
        return function(kernels.rmsnorm, desc.rmsnorm);
    case MOIRA_OP_ROPE:
        return function(kernels.rope, desc.rope);
    case MOIRA_OP_KV_APPEND:
        return function(kernels.kv_append, desc.kv_append);
    case MOIRA_OP_ATTENTION_GQA:
        return function(kernels.attention_gqa, desc.attention_gqa);
    case MOIRA_OP_ATTENTION_MLA:
        return function(kernels.attention_mla, desc.attention_mla);
    case MOIRA_OP_GEMM:
        return function(kernels.gemm, desc.gemm);
    case MOIRA_OP_ROUTER_TOPK:
        return function(kernels.router_topk, desc.router_topk);
    case MOIRA_OP_EXPERT_FFN:
        return function(kernels.expert_ffn, desc.expert_ffn);
    case MOIRA_OP_EXPERT_GROUPS:
        return function(kernels.expert_groups, desc.expert_groups);
    default:
        return function(kernels.combine, desc.combine);
    }
}

// What check_op finds, then whether there is a kernel, and whether it takes these shapes.
moira_status check_kernel(const cuda_plugin& plugin, const moira_op_header* header, any_op_desc& desc) {
    if (const moira_status status = check_op(capabilities_of(plugin), header, desc))
        return status;
    return with_op(plugin.kernels(), desc, [&](const auto& op, const auto& typed) -> moira_status {
        const char* name = op_names[desc.header.op];
        if (!op.launch)
            return report(MOIRA_UNSUPPORTED, "%s has no kernel for %s yet", plugin.name, name);
        const char* missing = by_library(desc) ? library_gemm_limit(desc.gemm) : op.limit ? op.limit(typed) : nullptr;
        return missing ? report(MOIRA_UNSUPPORTED, "%s: %s %s", plugin.name, name, missing) : MOIRA_OK;
    });
}

// Rows of a launch, or pairs, and its workspace.
struct launch_facts {
    uint32_t rows;
    const void* workspace;
    bool complete; // every address that the kernel reads is given
};

launch_facts facts_of(const any_op_desc&, const moira_embedding_args& a) {
    return {a.rows, nullptr, a.token_ids && a.table && a.out};
}
launch_facts facts_of(const any_op_desc&, const moira_rmsnorm_args& a) {
    return {a.rows, nullptr, a.in && a.out && a.weight};
}
launch_facts facts_of(const any_op_desc&, const moira_rope_args& a) {
    return {a.rows, nullptr, a.x && a.positions && a.table};
}
launch_facts facts_of(const any_op_desc&, const moira_kv_append_args& a) {
    return {a.rows, nullptr, a.in && a.slots && a.pool};
}
launch_facts facts_of(const any_op_desc& desc, const moira_attention_args& a) {
    const bool mla = desc.header.op == MOIRA_OP_ATTENTION_MLA;
    const bool extra = mla ? a.weight != nullptr : !desc.attention_gqa.sinks || a.sinks;
    return {a.rows, a.workspace, a.q && a.row_table && a.kv.pool && a.kv.page_table && a.out && extra};
}
launch_facts facts_of(const any_op_desc& desc, const moira_gemm_args& a) {
    return {a.rows, a.workspace, a.x && a.weight && a.out && (!desc.gemm.has_bias || a.bias)};
}
launch_facts facts_of(const any_op_desc& desc, const moira_router_topk_args& a) {
    return {a.rows, nullptr, a.logits && a.ids && a.weights && (!desc.router_topk.has_bias || a.bias)};
}
launch_facts facts_of(const any_op_desc&, const moira_expert_ffn_args& a) {
    const uint32_t pairs = a.groups == 0 ? 0 : a.pairs;
    return {pairs, a.workspace, a.x && a.table && a.group_table && a.pair_table && a.out};
}
launch_facts facts_of(const any_op_desc& desc, const moira_combine_args& a) {
    const moira_combine_desc& d = desc.combine;
    return {a.rows, nullptr, a.residual && (!d.top_k || (a.expert_out && a.weights)) && (!d.has_shared || a.shared)};
}

launch_facts facts_of(const any_op_desc&, const moira_expert_groups_args& a) {
    return {a.rows, a.workspace, a.ids && a.generations && a.group_table && a.pair_table && a.group_count};
}

// OK; `empty`: nothing to do.
template <class Args>
moira_status check_args(const moira_op& op, const Args& args, bool& empty) {
    const launch_facts facts = facts_of(op.desc, args);
    const uint32_t kind = op.desc.header.op;
    if (facts.rows > op.desc.header.rows_max)
        return report(MOIRA_INVALID_ARGUMENT, "op %u was launched with %u rows but prepared for %u", kind, facts.rows,
                      op.desc.header.rows_max);
    empty = facts.rows == 0;
    if (!empty && (!facts.complete || (op.workspace_bytes > 0 && !facts.workspace)))
        return report(MOIRA_INVALID_ARGUMENT, "op %u was launched without one of its addresses", kind);
    return MOIRA_OK;
}

template <class Desc, class Args>
const Args& args_as(const cuda_op<Desc, Args>&, const void* args) {
    return *static_cast<const Args*>(args);
}

moira_status check_entry(const moira_stream& stream, const moira_launch& entry, bool& empty) {
    const moira_op& op = *entry.op;
    return with_op(stream.device->plugin->kernels(), op.desc,
                   [&](const auto& kernel, const auto&) { return check_args(op, args_as(kernel, entry.args), empty); });
}

moira_status check_list(const moira_stream& stream, const moira_launch* list, uint32_t count) {
    for (uint32_t index = 0; index < count; ++index) {
        if (!list[index].op || !list[index].args || list[index].op->device != stream.device)
            return report(MOIRA_INVALID_ARGUMENT, "launch %u has no op of this device, or no arguments", index);
        bool empty = false;
        if (const moira_status status = check_entry(stream, list[index], empty))
            return status;
    }
    return MOIRA_OK;
}

// For the error of one more op.
moira_status make_room(moira_stream& stream) {
    if (!stream.recording)
        return stream.errors.used == error_slots ? collect_errors(stream) : MOIRA_OK;
    if (stream.recording->errors.used < error_slots)
        return MOIRA_OK;
    stream.recording->spoilt = true;
    return report(MOIRA_INVALID_ARGUMENT, "a graph holds at most %u launches", error_slots);
}

int launch_entry(moira_stream& stream, const moira_launch& entry) {
    const moira_op& op = *entry.op;
    error_list& errors = stream.recording ? stream.recording->errors : stream.errors;
    const uint32_t slot = errors.used++;
    errors.ops[slot] = op.desc.header.op;
    const cuda_launch launch{stream.stream, reinterpret_cast<step_error_slot*>(errors.slots + slot),
                             stream.device->description.multiprocessors, op.expert_layout_id};
    if (op.library)
        return launch_library_gemm(stream, *op.library, op.desc.gemm, *static_cast<const moira_gemm_args*>(entry.args));
    return with_op(stream.device->plugin->kernels(), op.desc, [&](const auto& kernel, const auto& desc) {
        return kernel.launch(desc, args_as(kernel, entry.args), launch);
    });
}

} // namespace

namespace {

// What the library makes different: whose numbers, and what is promised.
moira_status query_library(moira_device& device, const any_op_desc& desc, moira_op_support& support) {
    const library_product* product = nullptr;
    if (const moira_status status = find_library_product(device, desc.gemm, &product))
        return status;
    const uint64_t version = device.library.calls->version();
    support.row_exact = library_rows_proven(device.description.compute_major, version) ? 1 : 0;
    std::snprintf(support.numerics_id, sizeof support.numerics_id, "%.15s/cublaslt-%llu",
                  device.plugin->kernels().numerics_id, static_cast<unsigned long long>(version % 1000000));
    return MOIRA_OK;
}

} // namespace

op_capabilities capabilities_of(const cuda_plugin& plugin) {
    const cuda_kernels& kernels = plugin.kernels();
    return {plugin.name, kernels.kv_bf16_supported, kernels.weight_supported, kernels.round_rows != nullptr};
}

moira_status cuda_op_query(moira_device* device, const moira_op_header* desc, moira_op_support* support) {
    if (!device || !support || support->struct_size < sizeof *support)
        return report(MOIRA_INVALID_ARGUMENT, "op_query needs a device and a moira_op_support with its struct_size");
    const cuda_plugin& plugin = *device->plugin;
    const uint64_t struct_size = support->struct_size;
    *support = moira_op_support{};
    support->struct_size = struct_size;
    support->row_exact = 1;
    support->thread_exact = 1; // the host's team computes nothing here
    support->kv_type_wanted = plugin.kernels().kv_type_wanted;
    std::snprintf(support->numerics_id, sizeof support->numerics_id, "%s", plugin.kernels().numerics_id);
    any_op_desc checked{};
    moira_status status = check_kernel(plugin, desc, checked);
    if (status == MOIRA_OK && by_library(checked))
        status = query_library(*device, checked, *support);
    if (status == MOIRA_OK) {
        support->score = plugin.score;
        std::snprintf(support->reason, sizeof support->reason, "%s", device->description.name);
    } else {
        copy_last_error(support->reason, sizeof support->reason);
    }
    // "No" is an answer, not an error of the query.
    return status == MOIRA_UNSUPPORTED ? MOIRA_OK : status;
}

moira_status cuda_op_prepare(moira_device* device, const moira_op_header* desc, moira_op** op,
                             uint64_t* workspace_bytes) {
    if (!device || !op || !workspace_bytes)
        return report(MOIRA_INVALID_ARGUMENT, "op_prepare needs a device, an op address and a workspace_bytes address");
    *op = nullptr;
    if (const moira_status status = refuse_recordings(*device, "preparing an op"))
        return status;
    const cuda_plugin& plugin = *device->plugin;
    any_op_desc checked{};
    if (const moira_status status = check_kernel(plugin, desc, checked))
        return status;
    const library_product* library = nullptr;
    if (by_library(checked))
        if (const moira_status status = find_library_product(*device, checked.gemm, &library))
            return status;
    auto* created = create_object<moira_op>(*device->host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for an op");
    created->device = device;
    created->desc = checked;
    created->library = library;
    if (checked.header.op == MOIRA_OP_EXPERT_FFN)
        created->expert_layout_id =
            packed_layout_id(plugin.kernels().packing.layout_base, MOIRA_PACK_EXPERT, checked.expert_ffn.quantization);
    created->workspace_bytes = library
                                   ? library_gemm_workspace(checked.gemm)
                                   : with_op(plugin.kernels(), checked, [](const auto& kernel, const auto& typed) {
                                         return kernel.workspace_bytes ? kernel.workspace_bytes(typed) : uint64_t{0};
                                     });
    *op = created;
    *workspace_bytes = created->workspace_bytes;
    return MOIRA_OK;
}

moira_status cuda_launch_list(moira_stream* stream, const moira_launch* list, uint32_t count) {
    if (!stream || (!list && count > 0))
        return report(MOIRA_INVALID_ARGUMENT, "launch needs a stream and a list");
    if (const moira_status status = check_list(*stream, list, count))
        return status;
    if (const moira_status status = enter_device(*stream->device))
        return status;
    for (uint32_t index = 0; index < count; ++index) {
        bool empty = false;
        (void)check_entry(*stream, list[index], empty);
        if (empty)
            continue;
        if (const moira_status status = make_room(*stream))
            return status;
        if (const int code = launch_entry(*stream, list[index])) {
            const moira_status status = cuda_status(*stream->device, code, op_names[list[index].op->desc.header.op]);
            return status == MOIRA_OUT_OF_MEMORY ? MOIRA_LAUNCH_FAILED : status;
        }
    }
    return MOIRA_OK;
}

} // namespace moira
