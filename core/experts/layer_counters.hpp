#pragma once

#include "core/base/ids.hpp"
#include "core/experts/layer_statistics.hpp"
#include "core/experts/prefetch_hints.hpp"
#include "core/experts/residency_table.hpp"

#include <cstdint>
#include <vector>

namespace moira {

/// Counts what happens to the experts of each layer. Plain state under the store's lock; allocates when it is built and
/// in shown().
class layer_counters {
public:
    explicit layer_counters(std::int32_t layers);

    /// A wave asks for an expert that is `resident` or not; `read_ahead`: a hint brought it and nobody had asked yet.
    void visited(expert_id expert, bool resident, bool read_ahead) noexcept;
    void loading(std::int32_t layer) noexcept { ++at(layer).loads; }
    void loading_ahead(std::int32_t layer) noexcept {
        loading(layer);
        ++at(layer).prefetch_loads;
    }
    /// An absent expert of the layer was just looked up among the hints, whose counts are `now`.
    void hinted(std::int32_t layer, const hint_counts& now) noexcept;
    void waited(std::int32_t layer, double seconds) noexcept { at(layer).stall_s += seconds; }

    /// Layers that were asked for, in order; `table` knows what speculation came to, each load of `disk_bytes`.
    std::vector<layer_statistics> shown(const residency_table& table, std::uint64_t disk_bytes) const;

private:
    layer_statistics& at(std::int32_t layer) noexcept { return layers_[static_cast<std::size_t>(layer)]; }

    std::vector<layer_statistics> layers_;
    hint_counts hints_; // when hinted() was called last
};

} // namespace moira
