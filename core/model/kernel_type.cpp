#include "core/model/kernel_type.hpp"

#include "plugins/moira_plugin.h"

namespace moira {

std::optional<std::uint32_t> kernel_type(tensor_type type) noexcept {
    switch (type) {
    case tensor_type::f32:
        return MOIRA_TYPE_F32;
    case tensor_type::bf16:
        return MOIRA_TYPE_BF16;
    case tensor_type::f16:
        return MOIRA_TYPE_F16;
    default:
        return std::nullopt;
    }
}

}  // namespace moira
