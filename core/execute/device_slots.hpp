#pragma once

#include "core/execute/op_provider.hpp"
#include "core/experts/slot_memory.hpp"

#include <cstdint>

namespace moira {

/// Where the slots of a store lie that belongs to a device.
enum class slot_place : std::uint8_t {
    device,      ///< its own memory, which kernels read
    page_locked, ///< host memory that its copy engine reads beside the processor
};

/// One buffer for all slots: a device's memory cannot be given back in parts, so the store grows again up to what it
/// had at the start, and no further. `device` outlives the memory. Alignment: of slot 0.
slot_memory_maker make_device_slots(const op_provider& device, slot_place place, std::uint64_t alignment);

} // namespace moira
