// What the CPU plugins share: everything of the C interface but the arithmetic, which each plugin supplies as one table
// of kernels. Exceptions stay inside; there are no threads and no globals but the calling thread's last error.
#pragma once

#include "kernels/cpu_kernels.hpp"
#include "kernels/op_plan.hpp"

// Supplied by each plugin (plugins/cpu_*/plugin.cpp). Runs on any processor: only the kernels behind the table may use
// the instructions that the table asks for.
namespace moira {
const cpu_kernels& plugin_kernels();
}

struct moira_device {
    const moira_host* host;
    const moira::cpu_kernels* kernels;
    uint32_t team_size; // fixed at opening; workspaces hold one scratch per member
};

struct moira_buffer {
    moira_device* device;
    void* address;
};

// Work is done when launch returns, so a stream is only the place of its step's error word.
struct moira_stream {
    moira_device* device;
    moira_error_word error;
};

struct moira_event {
    moira_device* device;
};

namespace moira {

union any_op_desc {
    moira_op_header header;
    moira_embedding_desc embedding;
    moira_rmsnorm_desc rmsnorm;
    moira_rope_desc rope;
    moira_kv_append_desc kv_append;
    moira_attention_gqa_desc attention_gqa;
    moira_attention_mla_desc attention_mla;
    moira_gemm_desc gemm;
    moira_router_topk_desc router_topk;
    moira_expert_ffn_desc expert_ffn;
    moira_combine_desc combine;
};

} // namespace moira

struct moira_op {
    moira_device* device;
    moira::any_op_desc desc;
    moira::workspace_plan workspace;
    uint32_t expert_layout_id;
};

namespace moira {

// Remembers a message for last_error and returns the code.
moira_status report(moira_status code, const char* format, ...) __attribute__((format(printf, 2, 3)));
void copy_last_error(char* text, uint64_t bytes);

// Host memory for one plugin object; nullptr when there is none.
template <class T>
T* create_object(const moira_host& host) {
    void* memory = host.allocate(host.context, sizeof(T), alignof(T));
    return memory ? new (memory) T{} : nullptr;
}

template <class T>
void destroy_object(T* object) {
    if (!object)
        return;
    const moira_host& host = *object->device->host;
    host.release(host.context, object);
}

// Checks struct_size, op and every dimension; copies the descriptor. OK, UNSUPPORTED or INVALID_ARGUMENT.
moira_status check_op(const cpu_kernels& kernels, const moira_op_header* header, any_op_desc& desc);

// op_query, op_prepare, op_destroy, launch.
moira_status query_op(moira_device* device, const moira_op_header* desc, moira_op_support* support);
moira_status prepare_op(moira_device* device, const moira_op_header* desc, moira_op** op, uint64_t* workspace_bytes);
void destroy_op(moira_op* op);
moira_status check_launch(const moira_op& op, const void* args);
moira_status launch_list(moira_stream* stream, const moira_launch* list, uint32_t count);

// Packing, see moira_plugin.h.
moira_status query_packing(moira_device* device, const moira_pack_desc* desc, moira_pack_info* info);
moira_status pack_weights(moira_device* device, const moira_pack_desc* desc, const moira_pack_source* sources,
                          void* packed, void* scratch);
moira_status unpack_weights(moira_device* device, const moira_pack_desc* desc, const void* packed, void* const* weights,
                            void* scratch);

} // namespace moira
