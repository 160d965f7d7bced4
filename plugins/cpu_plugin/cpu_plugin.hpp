// What the CPU plugins share: everything of the C interface but the arithmetic, which each plugin supplies as one table
// of kernels. Exceptions stay inside; there are no threads and no globals but the calling thread's last error.
#pragma once

#include "kernels/cpu_kernels.hpp"
#include "kernels/op_plan.hpp"
#include "plugins/plugin_base/plugin_base.hpp"

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

struct moira_op {
    moira_device* device;
    moira::any_op_desc desc;
    moira::workspace_plan workspace;
    uint32_t expert_layout_id;
};

namespace moira {

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

inline op_capabilities capabilities_of(const cpu_kernels& kernels) {
    return {kernels.name, kernels.kv_bf16_supported, kernels.weight_supported};
}

// op_query, op_prepare, op_destroy, launch.
moira_status query_op(moira_device* device, const moira_op_header* desc, moira_op_support* support);
moira_status prepare_op(moira_device* device, const moira_op_header* desc, moira_op** op, uint64_t* workspace_bytes);
void destroy_op(moira_op* op);
moira_status check_launch(const moira_op& op, const void* args);
moira_status launch_list(moira_stream* stream, const moira_launch* list, uint32_t count);

// Packing, see moira_plugin.h.
moira_status cpu_pack_query(moira_device* device, const moira_pack_desc* desc, moira_pack_info* info);
moira_status cpu_pack(moira_device* device, const moira_pack_desc* desc, const moira_pack_source* sources, void* packed,
                      void* scratch);
moira_status cpu_unpack(moira_device* device, const moira_pack_desc* desc, const void* packed, void* const* weights,
                        void* scratch);

} // namespace moira
