#include "core/plan/speed_estimate.hpp"

#include <algorithm>
#include <vector>

namespace moira {

namespace {

/// Probability of 0 to `count` successes of chance `p`.
std::vector<double> binomial(std::int32_t count, double p) {
    std::vector<double> chances{1.0};
    for (std::int32_t i = 0; i < count; ++i) {
        chances.push_back(0.0);
        for (std::size_t j = chances.size() - 1; j > 0; --j)
            chances[j] = chances[j] * (1 - p) + chances[j - 1] * p;
        chances[0] *= 1 - p;
    }
    return chances;
}

/// Fills what missing experts cost: reads_s, stall_s, loaders_s. `compute_s`: of the step, without loaders.
void add_loads(speed_estimate& found, const model_demands& demands, const machine_speed& machine, double miss_rate,
               double compute_s) {
    const auto& moe = demands.shape.moe;
    const double chosen = static_cast<double>(demands.experts_per_token());
    const double expert_s = found.experts_s / chosen;
    const double read_s = static_cast<double>(demands.disk_bytes) / (*machine.disk_gb_s * 1e9);
    // Whoever waits for an expert loads too.
    const auto together = static_cast<std::int32_t>(machine.loader_threads + 1);
    const double apart_s = std::max(read_s, machine.pack_s / together);
    const auto chances = binomial(moe.top_k, miss_rate);
    for (std::int32_t missing = 1; missing <= moe.top_k; ++missing)
        found.stall_s += demands.shape.moe_layers() * chances[static_cast<std::size_t>(missing)] *
                         layer_stall_s(moe.top_k, missing, expert_s, apart_s, machine.pack_s, together);
    const double loads = chosen * miss_rate;
    found.disk_bytes_per_token = static_cast<std::uint64_t>(loads * static_cast<double>(demands.disk_bytes));
    found.reads_s = loads * read_s;
    // Loads are spread over the step; those beside a stall disturb nobody.
    if (machine.sharing_threads > 0)
        found.loaders_s = loads * (machine.read_cpu_s + machine.pack_s) / machine.sharing_threads * compute_s /
                          (compute_s + found.stall_s);
}

} // namespace

double layer_stall_s(std::int32_t top_k, std::int32_t missing, double expert_s, double read_s, double pack_s,
                     std::int32_t together) noexcept {
    if (missing <= 0)
        return 0;
    const double bunch = std::min(missing, together);
    const double first = bunch * read_s + pack_s - (top_k - missing) * expert_s;
    const double last = missing * read_s + pack_s - (top_k - bunch) * expert_s;
    return std::max({0.0, first, last});
}

std::optional<speed_estimate> estimate_speed(const model_demands& demands, const machine_speed& machine,
                                             double hit_rate, std::int32_t context_tokens) {
    const double memory_bytes_s = machine.memory_gb_s * 1e9 * bandwidth_share;
    const double miss_rate = std::clamp(1 - hit_rate, 0.0, 1.0);
    const auto chosen = static_cast<double>(demands.experts_per_token());
    const bool loads = miss_rate > 0 && chosen > 0;
    if (loads && (!machine.disk_gb_s || *machine.disk_gb_s <= 0))
        return std::nullopt;
    speed_estimate found;
    found.hit_rate = 1 - miss_rate;
    found.dense_s = static_cast<double>(demands.dense_token_bytes) / memory_bytes_s;
    found.kv_s = static_cast<double>(demands.kv_token_bytes()) * context_tokens / memory_bytes_s;
    found.experts_s = chosen * static_cast<double>(demands.slot_bytes) / memory_bytes_s;
    found.overhead_s = layer_overhead_s * demands.shape.layers;
    found.compute_s = found.dense_s + found.kv_s + found.experts_s + found.overhead_s;
    if (loads)
        add_loads(found, demands, machine, miss_rate, found.compute_s);
    found.compute_s += found.loaders_s;
    found.between_s = between_steps_s;
    found.step_s = found.compute_s + found.stall_s + found.between_s;
    found.tok_s = 1 / found.step_s;
    found.tok_s_overlapped = 1 / (std::max(found.compute_s, found.reads_s) + found.between_s);
    return found;
}

} // namespace moira
