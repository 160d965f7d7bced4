#include "kernels/packed_layout.hpp"
#include "plugins/cpu_plugin/cpu_plugin.hpp"

#include <cstdio>
#include <cstring>
#include <new>

namespace moira {

namespace {

uint64_t workspace_bytes_of(const moira_device& device, const workspace_plan& plan) {
    return plan.shared_bytes + plan.scratch_bytes * device.team_size;
}

void copy_text(char* target, size_t bytes, const char* text) {
    std::snprintf(target, bytes, "%s", text);
}

} // namespace

moira_status query_op(moira_device* device, const moira_op_header* desc, moira_op_support* support) {
    if (!device || !support || support->struct_size < sizeof *support)
        return report(MOIRA_INVALID_ARGUMENT, "op_query needs a device and a moira_op_support with its struct_size");
    const uint64_t struct_size = support->struct_size;
    *support = moira_op_support{};
    support->struct_size = struct_size;
    support->row_exact = 1;
    support->thread_exact = 1;
    support->kv_type_wanted = device->kernels->kv_type_wanted;
    copy_text(support->numerics_id, sizeof support->numerics_id, device->kernels->numerics_id);
    any_op_desc checked{};
    const moira_status status = check_op(capabilities_of(*device->kernels), desc, checked);
    if (status == MOIRA_OK) {
        support->score = device->kernels->score;
        copy_text(support->reason, sizeof support->reason, device->kernels->requirement);
    } else {
        copy_last_error(support->reason, sizeof support->reason);
    }
    // "No" is an answer, not an error of the query.
    return status == MOIRA_UNSUPPORTED ? MOIRA_OK : status;
}

moira_status prepare_op(moira_device* device, const moira_op_header* desc, moira_op** op, uint64_t* workspace_bytes) {
    if (!device || !op || !workspace_bytes)
        return report(MOIRA_INVALID_ARGUMENT, "op_prepare needs a device, an op address and a workspace_bytes address");
    *op = nullptr;
    any_op_desc checked{};
    if (const moira_status status = check_op(capabilities_of(*device->kernels), desc, checked))
        return status;
    auto* created = create_object<moira_op>(*device->host);
    if (!created)
        return report(MOIRA_OUT_OF_MEMORY, "the host has no memory for an op");
    created->device = device;
    created->desc = checked;
    created->workspace = plan_workspace(created->desc.header);
    if (created->desc.header.op == MOIRA_OP_EXPERT_FFN)
        created->expert_layout_id = packed_layout_id(device->kernels->packing.layout_base, MOIRA_PACK_EXPERT,
                                                     created->desc.expert_ffn.quantization);
    *op = created;
    *workspace_bytes = workspace_bytes_of(*device, created->workspace);
    return MOIRA_OK;
}

void destroy_op(moira_op* op) {
    destroy_object(op);
}

} // namespace moira
