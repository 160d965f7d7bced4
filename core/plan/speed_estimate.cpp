#include "core/plan/speed_estimate.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace moira {

namespace {

/// Share of the probe's bandwidth that a step's kernels reach on large weights: `moira bench --batch 1` on a model of
/// `moira synth moe-1b` says 0.84 with all that lies between the ops.
constexpr double bandwidth_share = 0.85;
/// Per layer between its ops: launches, barriers of the threads, routing on the host. `moira bench --batch 1` on
/// moira-demo, whose weights lie in the caches, needs 41 us per layer for everything, half of it for its bytes.
constexpr double overhead_s_per_layer = 20e-6;

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

/// Seconds of one layer's reads that pass while its resident experts are computed.
double hidden_s(std::int32_t top_k, double miss_rate, double compute_s, double read_s) {
    const auto chances = binomial(top_k, miss_rate);
    double hidden = 0;
    for (std::int32_t missing = 0; missing <= top_k; ++missing)
        hidden +=
            chances[static_cast<std::size_t>(missing)] * std::min((top_k - missing) * compute_s, missing * read_s);
    return hidden;
}

} // namespace

std::optional<speed_estimate> estimate_speed(const model_demands& demands, const machine_speed& machine,
                                             double hit_rate, std::int32_t context_tokens) {
    const double memory_bytes_s = machine.memory_gb_s * 1e9 * bandwidth_share;
    const double miss_rate = std::clamp(1 - hit_rate, 0.0, 1.0);
    const auto chosen = static_cast<double>(demands.experts_per_token());
    if (miss_rate > 0 && chosen > 0 && (!machine.disk_gb_s || *machine.disk_gb_s <= 0))
        return std::nullopt;
    speed_estimate found;
    found.hit_rate = 1 - miss_rate;
    found.dense_s = static_cast<double>(demands.dense_token_bytes) / memory_bytes_s;
    found.kv_s = static_cast<double>(demands.kv_token_bytes()) * context_tokens / memory_bytes_s;
    found.experts_s = chosen * static_cast<double>(demands.slot_bytes) / memory_bytes_s;
    found.overhead_s = overhead_s_per_layer * demands.shape.layers;
    if (miss_rate > 0 && chosen > 0) {
        const double bytes = chosen * miss_rate * static_cast<double>(demands.disk_bytes);
        found.disk_bytes_per_token = static_cast<std::uint64_t>(bytes);
        found.reads_s = bytes / (*machine.disk_gb_s * 1e9);
        found.hidden_s =
            demands.shape.moe_layers() * hidden_s(demands.shape.moe.top_k, miss_rate, found.experts_s / chosen,
                                                  static_cast<double>(demands.disk_bytes) / (*machine.disk_gb_s * 1e9));
    }
    const double computing = found.dense_s + found.kv_s + found.experts_s + found.overhead_s;
    found.step_s = computing + found.reads_s - found.hidden_s;
    found.tok_s = 1 / found.step_s;
    found.tok_s_overlapped = 1 / std::max(computing, found.reads_s);
    return found;
}

} // namespace moira
