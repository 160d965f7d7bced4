#include "core/plan/device_plan.hpp"

#include "core/experts/device_margin.hpp"

#include <algorithm>

namespace moira {

namespace {

/// Seconds until an expert that the device lacks is there; none: nobody knows the disk that it needs.
std::optional<double> miss_s(const model_demands& demands, const planned_device& device, double host_hit_rate,
                             std::optional<double> disk_gb_s) {
    const double over_link = static_cast<double>(demands.slot_bytes) / (device.link_gb_s * 1e9);
    if (host_hit_rate >= 1)
        return over_link;
    if (!disk_gb_s || *disk_gb_s <= 0)
        return std::nullopt;
    return over_link + (1 - host_hit_rate) * static_cast<double>(demands.disk_bytes) / (*disk_gb_s * 1e9);
}

} // namespace

result<device_plan> plan_device(const model_demands& demands, const planned_device& device, const budget_plan& host,
                                std::optional<double> disk_gb_s, std::int32_t context_tokens, const hit_source& hits) {
    device_plan plan;
    const auto others =
        host.dense_bytes + host.kv_bytes + host.arena_bytes + device.memory_bytes / device_margin_divisor;
    plan.dense_fits = others <= device.memory_bytes;
    const auto left = device.memory_bytes - std::min(device.memory_bytes, others);
    plan.slots = demands.slot_bytes == 0 ? 0 : std::min(left / demands.slot_bytes, host.slots_all);
    const auto on_device = hits(plan.slots, host.slots_all);
    // What the device has, the host once had too: its hits are those of a cache of its size less the device's.
    const auto on_either = hits(std::max(host.slots, plan.slots), host.slots_all);
    if (!on_device || !on_either)
        return tl::unexpected(on_device ? on_either.error() : on_device.error());
    plan.hit_rate = *on_device;
    plan.host_hit_rate = plan.hit_rate >= 1 || host.slots >= host.slots_all
                             ? 1.0
                             : std::clamp((*on_either - *on_device) / (1 - *on_device), 0.0, 1.0);
    if (!plan.dense_fits || plan.slots < host.slots_min || device.memory_gb_s <= 0 || device.link_gb_s <= 0)
        return plan;
    model_demands over_link = demands;
    over_link.disk_bytes = demands.slot_bytes;
    machine_speed speed;
    speed.memory_gb_s = device.memory_gb_s;
    if (const auto each_s = miss_s(demands, device, plan.host_hit_rate, disk_gb_s); each_s && *each_s > 0)
        speed.disk_gb_s = static_cast<double>(demands.slot_bytes) / *each_s / 1e9;
    plan.speed = estimate_speed(over_link, speed, plan.hit_rate, context_tokens);
    return plan;
}

} // namespace moira
