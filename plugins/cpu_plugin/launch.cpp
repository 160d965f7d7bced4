// Runs a list of ops in order. A list wakes the team at most once; consecutive small ops are done by the caller alone
// between two barriers, so that a barrier is paid only where work is really shared.
#include "plugins/cpu_plugin/cpu_plugin.hpp"

namespace moira {

namespace {

// Below this many multiply-adds a phase takes less than about 2 us on one core (60 to 120 per nanosecond), which is
// what sharing it costs.
constexpr uint64_t team_work_min = 1u << 17;

struct list_run {
    const moira_launch* list;
    uint32_t begin;
    uint32_t end;
};

void* workspace_of(const moira_op& op, const void* args) {
    switch (op.desc.header.op) {
    case MOIRA_OP_ATTENTION_GQA:
    case MOIRA_OP_ATTENTION_MLA:
        return static_cast<const moira_attention_args*>(args)->workspace;
    case MOIRA_OP_GEMM:
        return static_cast<const moira_gemm_args*>(args)->workspace;
    case MOIRA_OP_EXPERT_FFN:
        return static_cast<const moira_expert_ffn_args*>(args)->workspace;
    case MOIRA_OP_EXPERT_GROUPS:
        return static_cast<const moira_expert_groups_args*>(args)->workspace;
    default:
        return nullptr;
    }
}

template <class Desc, class Args>
void call(void (*kernel)(const Desc&, const Args&, const work_share&), const Desc& desc, const void* args,
          const work_share& share) {
    kernel(desc, *static_cast<const Args*>(args), share);
}

void run_share(const moira_op& op, const void* args, const work_share& share) {
    const cpu_kernels& kernels = *op.device->kernels;
    switch (op.desc.header.op) {
    case MOIRA_OP_EMBEDDING:
        return call(kernels.embedding, op.desc.embedding, args, share);
    case MOIRA_OP_RMSNORM:
        return call(kernels.rmsnorm, op.desc.rmsnorm, args, share);
    case MOIRA_OP_ROPE:
        return call(kernels.rope, op.desc.rope, args, share);
    case MOIRA_OP_KV_APPEND:
        return call(kernels.kv_append, op.desc.kv_append, args, share);
    case MOIRA_OP_ATTENTION_GQA:
        return call(kernels.attention_gqa, op.desc.attention_gqa, args, share);
    case MOIRA_OP_ATTENTION_MLA:
        return call(kernels.attention_mla, op.desc.attention_mla, args, share);
    case MOIRA_OP_GEMM:
        return call(kernels.gemm, op.desc.gemm, args, share);
    case MOIRA_OP_ROUTER_TOPK:
        return call(kernels.router_topk, op.desc.router_topk, args, share);
    case MOIRA_OP_EXPERT_FFN:
        return call(kernels.expert_ffn, op.desc.expert_ffn, args, share);
    case MOIRA_OP_COMBINE:
        return call(kernels.combine, op.desc.combine, args, share);
    case MOIRA_OP_EXPERT_GROUPS:
        return call(kernels.expert_groups, op.desc.expert_groups, args, share);
    default:
        return;
    }
}

// One member's part of one phase, with the units split evenly.
void run_phase(const moira_op& op, const void* args, uint32_t phase, uint64_t units, uint32_t rank, uint32_t size) {
    auto* workspace = static_cast<char*>(workspace_of(op, args));
    work_share share{phase, units * rank / size, units * (rank + 1) / size, nullptr, nullptr};
    if (share.begin == share.end)
        return;
    if (workspace) {
        share.shared = reinterpret_cast<float*>(workspace);
        share.scratch =
            reinterpret_cast<float*>(workspace + op.workspace.shared_bytes + op.workspace.scratch_bytes * rank);
    }
    run_share(op, args, share);
}

bool is_large(const phase_plan& plan) {
    return plan.work >= team_work_min && plan.units > 1;
}

bool is_large(const moira_launch& launch) {
    for (uint32_t phase = 0; phase < phase_count(launch.op->desc.header.op); ++phase)
        if (is_large(plan_phase(launch.op->desc.header, launch.args, phase)))
            return true;
    return false;
}

void run_alone(const moira_launch& launch) {
    for (uint32_t phase = 0; phase < phase_count(launch.op->desc.header.op); ++phase) {
        const phase_plan plan = plan_phase(launch.op->desc.header, launch.args, phase);
        run_phase(*launch.op, launch.args, phase, plan.units, 0, 1);
    }
}

// Every member walks the whole list. All see the same plans, because a plan depends on arguments only and never on what
// an op of the list writes.
void run_as_member(void* argument, const moira_team_member* member) {
    const auto& run = *static_cast<const list_run*>(argument);
    const moira_host& host = *run.list[run.begin].op->device->host;
    bool barrier_due = false; // before the next phase that reads what others wrote
    bool last_was_large = false;
    for (uint32_t index = run.begin; index < run.end; ++index) {
        const moira_launch& launch = run.list[index];
        const uint32_t phases = phase_count(launch.op->desc.header.op);
        for (uint32_t phase = 0; phase < phases; ++phase) {
            const phase_plan plan = plan_phase(launch.op->desc.header, launch.args, phase);
            if (plan.units == 0) // nobody waits for nothing
                continue;
            const bool large = is_large(plan);
            if (barrier_due && (large || last_was_large))
                host.team_barrier(host.context, member);
            if (large)
                run_phase(*launch.op, launch.args, phase, plan.units, member->rank, member->size);
            else if (member->rank == 0)
                run_phase(*launch.op, launch.args, phase, plan.units, 0, 1);
            barrier_due = true;
            last_was_large = large;
        }
    }
}

moira_status check_list(const moira_stream& stream, const moira_launch* list, uint32_t count) {
    for (uint32_t index = 0; index < count; ++index) {
        const moira_launch& launch = list[index];
        if (!launch.op || !launch.args || launch.op->device != stream.device)
            return report(MOIRA_INVALID_ARGUMENT, "launch %u has no op of this device, or no arguments", index);
        if (const moira_status status = check_launch(*launch.op, launch.args))
            return status;
    }
    return MOIRA_OK;
}

// What the kernels will skip is found before they run, by the caller alone, so that "the first one" is well defined.
void note_errors(moira_stream& stream, const moira_launch* list, uint32_t count) {
    for (uint32_t index = 0; index < count && stream.error.code == MOIRA_ERROR_NONE; ++index)
        stream.error = find_error(list[index].op->desc.header, list[index].args, list[index].op->expert_layout_id);
}

// Ops whose work is known before any of them runs.
moira_status launch_part(moira_stream* stream, const moira_launch* list, uint32_t count) {
    if (const moira_status status = check_list(*stream, list, count))
        return status;
    note_errors(*stream, list, count);
    list_run run{list, 0, count};
    if (stream->device->team_size == 1)
        run.begin = count;
    for (; run.begin < count && !is_large(list[run.begin]); ++run.begin)
        run_alone(list[run.begin]);
    while (run.end > run.begin && !is_large(list[run.end - 1]))
        --run.end;
    if (run.end > run.begin) {
        const moira_device& device = *stream->device;
        device.host->run_team(device.host->context, device.team_size, run_as_member, &run);
    } else {
        run.end = stream->device->team_size == 1 ? 0 : run.begin;
    }
    for (uint32_t index = run.end; index < count; ++index)
        run_alone(list[index]);
    return MOIRA_OK;
}

bool begins_part(const moira_launch& launch) {
    return launch.op && launch.args && follows_device_counts(launch.op->desc.header, launch.args);
}

} // namespace

moira_status launch_list(moira_stream* stream, const moira_launch* list, uint32_t count) {
    if (!stream || (!list && count > 0))
        return report(MOIRA_INVALID_ARGUMENT, "launch needs a stream and a list");
    for (uint32_t begin = 0; begin < count;) {
        uint32_t end = begin + 1;
        while (end < count && !begins_part(list[end]))
            ++end;
        if (const moira_status status = launch_part(stream, list + begin, end - begin))
            return status;
        begin = end;
    }
    return MOIRA_OK;
}

} // namespace moira
