#include "plugins/cpu_plugin/cpu_plugin.hpp"

namespace moira {

namespace {

moira_status without_device() {
    return report(MOIRA_INVALID_ARGUMENT, "packing needs a device");
}

} // namespace

moira_status cpu_pack_query(moira_device* device, const moira_pack_desc* desc, moira_pack_info* info) {
    return device ? query_packing(capabilities_of(*device->kernels), device->kernels->packing, desc, info)
                  : without_device();
}

moira_status cpu_pack(moira_device* device, const moira_pack_desc* desc, const moira_pack_source* sources, void* packed,
                      void*) {
    return device ? pack_weights(capabilities_of(*device->kernels), device->kernels->packing, desc, sources, packed)
                  : without_device();
}

moira_status cpu_unpack(moira_device* device, const moira_pack_desc* desc, const void* packed, void* const* weights,
                        void*) {
    return device ? unpack_weights(capabilities_of(*device->kernels), device->kernels->packing, desc, packed, weights)
                  : without_device();
}

} // namespace moira
