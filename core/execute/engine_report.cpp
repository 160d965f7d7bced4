#include "core/execute/engine_parts.hpp"

#include "core/execute/kv_type.hpp"
#include "core/experts/locked_memory.hpp"
#include "core/model/shown_name.hpp"

#include <algorithm>
#include <numeric>

// What an engine says of itself.

namespace moira {

bool engine::has_mtp() const noexcept { return impl_->weights.mtp.has_value(); }
const model_shape& engine::shape() const noexcept { return impl_->model.shape(); }
const checkpoint& engine::model() const noexcept { return impl_->model; }
const execution_limits& engine::limits() const noexcept { return impl_->limits; }
std::int32_t engine::step_rows_max() const noexcept { return std::max(impl_->step_rows, impl_->limits.rows_max); }
expert_store& engine::experts() noexcept { return *impl_->store; }
const std::shared_ptr<route_board>& engine::routes() const noexcept { return impl_->routes; }

expert_store_statistics engine::expert_statistics() const {
    auto shown = impl_->store->statistics();
    if (impl_->host_store)
        shown.host_tier = std::make_shared<const expert_store_statistics>(impl_->host_store->statistics());
    if (impl_->routes)
        shown.prediction = impl_->routes->report();
    if (impl_->pruning)
        shown.pruning = impl_->pruning->report();
    return shown;
}

std::uint64_t engine::slab_bytes() const noexcept { return impl_->source->slab_bytes(); }
std::uint64_t engine::expert_source_bytes() const noexcept { return impl_->packing.source_bytes; }
std::uint64_t engine::kv_bytes() const noexcept {
    return std::accumulate(impl_->cache.layers.begin(), impl_->cache.layers.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const device_buffer& layer) { return sum + layer.bytes(); });
}
std::uint64_t engine::dense_bytes() const noexcept { return impl_->weights.dense_bytes; }
std::string engine::numerics_id() const {
    return impl_->ops.numerics_id() + "/kv-" + kv_type_name(impl_->limits.kv_type) + (impl_->experts_rounded() ? "/experts-fp8" : "") +
           (impl_->pruning ? "/" + impl_->pruning->numerics_id() : "");
}

std::vector<std::string> engine::lossy() const {
    std::vector<std::string> levers;
    if (impl_->experts_rounded())
        levers.emplace_back("experts.precision=fp8");
    if (impl_->pruning)
        levers.push_back(impl_->pruning->lever());
    return levers;
}

std::map<std::string, std::string> engine::plugins() const { return impl_->ops.plugins(); }
resident_step_counts engine::resident_steps() const noexcept {
    return impl_->resident ? impl_->resident->counts() : resident_step_counts();
}
double engine::load_s() const noexcept { return impl_->load_s; }

std::string engine::summary() const {
    std::map<std::string, std::int32_t> ops_by_plugin;
    for (const auto& [op, plugin] : plugins())
        ++ops_by_plugin[plugin];
    std::string where;
    for (const auto& [plugin, count] : ops_by_plugin)
        where += (where.empty() ? "" : ", ") + std::to_string(count) + " ops on " + plugin;
    const auto experts = impl_->store->statistics();
    const auto& shape = impl_->model.shape();
    return impl_->model.folder().filename().string() + " (" + shape.architecture + "): " + where + "; experts in " +
           std::to_string(experts.slots) + " slots for " + std::to_string((shape.moe_layers() + mtp_modules(impl_->options)) * shape.moe.experts) + ", " +
           (impl_->host_store ? "on the device, over " + std::to_string(impl_->host_store->statistics().slots) + " slots in memory, " : "") +
           (impl_->packing.quantizes() ? "rounded to FP8, " : "") + (impl_->pruning ? "lossy " + impl_->pruning->lever() + ", " : "") + impl_->source->description() +
           (impl_->weights.embedding_rows ? "; embedding rows read when needed" : "") + "; context " + std::to_string(impl_->limits.context_max) + ", KV cache of " +
           std::to_string(std::int64_t{impl_->limits.pages} * impl_->limits.page_tokens) + " tokens in " +
           kv_type_name(impl_->limits.kv_type) + ", " + std::to_string(kv_bytes() >> 20) + " MiB";
}

std::vector<std::string> engine::notices() const {
    auto all = impl_->model.notices();
    for (const auto* each : {impl_->store.get(), impl_->host_store.get()})
        for (auto& notice : each ? each->notices() : std::vector<std::string>())
            all.push_back(std::move(notice));
    if (impl_->weights.unlocked_bytes > 0)
        all.push_back(lock_refusal("dense weights", impl_->weights.unlocked_bytes));
    if (impl_->packing.quantizes())
        all.push_back("experts.precision = fp8: experts are rounded from the checkpoint's precision to 8 bits; answers "
                      "differ from the exact ones");
    else if (impl_->experts_rounded())
        all.push_back("the experts of this model were rounded from " + shown_name(impl_->model.shape().quantized_from) +
                      " to 8 bits when it was packed; answers differ from the exact ones");
    if (impl_->pruning)
        all.push_back(impl_->pruning->notice());
    return all;
}

}  // namespace moira
