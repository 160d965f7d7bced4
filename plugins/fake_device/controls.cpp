// What tests call; see fake_device.h.
#include "plugins/fake_device/fake_device.hpp"

#include <algorithm>

namespace moira {

namespace {

// A log that a test forgot to clear must not eat the machine.
constexpr size_t calls_max = 65536;

fake_device& of(moira_device* device) {
    return *static_cast<fake_device*>(device);
}

void set_latency_us(moira_device* device, uint64_t latency_us) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).latency_us = of(device).copy_latency_us = latency_us;
}

void fail_launch(moira_device* device, uint32_t nth) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).launch_fault.left = nth;
}

void inject_error(moira_device* device, uint32_t op, uint32_t nth) {
    const std::scoped_lock lock(of(device).mutex);
    std::erase_if(of(device).errors, [&](const injected_error& error) { return error.op == op; });
    of(device).errors.push_back({op, {nth}});
}

void lose_device(moira_device* device, uint32_t nth) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).loss.left = nth;
}

void fail_buffer(moira_device* device, uint32_t nth) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).buffer_fault.left = nth;
}

uint64_t call_count(moira_device* device) {
    const std::scoped_lock lock(of(device).mutex);
    return of(device).calls.size();
}

uint32_t call_at(moira_device* device, uint64_t index, moira_fake_call* call) {
    const std::scoped_lock lock(of(device).mutex);
    if (index >= of(device).calls.size())
        return 0;
    *call = of(device).calls[index];
    return 1;
}

void clear_calls(moira_device* device) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).calls.clear();
}

uint64_t live_objects(moira_device* device) {
    const std::scoped_lock lock(of(device).mutex);
    return of(device).live_objects;
}

void set_memory_bytes(moira_device* device, uint64_t bytes) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).memory_bytes = std::max(bytes, of(device).memory_bytes_used());
}

void set_copy_latency_us(moira_device* device, uint64_t latency_us) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).copy_latency_us = latency_us;
}

void fail_copy(moira_device* device, uint32_t nth) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).copy_fault.left = nth;
}

void lose_device_at_copy(moira_device* device, uint32_t nth) {
    const std::scoped_lock lock(of(device).mutex);
    of(device).copy_loss.left = nth;
}

uint64_t hazard_count(moira_device* device) {
    const std::scoped_lock lock(of(device).mutex);
    return of(device).hazards.found.size();
}

uint32_t hazard_at(moira_device* device, uint64_t index, moira_fake_hazard* hazard) {
    const std::scoped_lock lock(of(device).mutex);
    if (index >= of(device).hazards.found.size())
        return 0;
    *hazard = of(device).hazards.found[index];
    return 1;
}

constexpr moira_fake_controls controls = {sizeof(moira_fake_controls),
                                          set_latency_us,
                                          fail_launch,
                                          inject_error,
                                          lose_device,
                                          fail_buffer,
                                          call_count,
                                          call_at,
                                          clear_calls,
                                          live_objects,
                                          set_memory_bytes,
                                          set_copy_latency_us,
                                          fail_copy,
                                          lose_device_at_copy,
                                          hazard_count,
                                          hazard_at};

} // namespace

moira_status fake_device::log(uint32_t kind, uint32_t op, uint64_t amount, moira_status status) {
    if (calls.size() < calls_max)
        calls.push_back({kind, op, amount, status, 0});
    return status;
}

} // namespace moira

extern "C" __attribute__((visibility("default"))) const moira_fake_controls* moira_fake_controls_v0() {
    return &moira::controls;
}
