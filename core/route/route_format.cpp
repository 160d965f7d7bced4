#include "core/route/route_format.hpp"

#include <algorithm>
#include <functional>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace moira::route_format {

struct hash::state {
    XXH64_state_t bytes{};
};

hash::hash() : state_(std::make_unique<state>()) {
    XXH64_reset(&state_->bytes, 0);
}

hash::~hash() = default;

void hash::update(std::span<const std::byte> bytes) noexcept {
    XXH64_update(&state_->bytes, bytes.data(), bytes.size());
}

std::uint64_t hash::digest() const noexcept {
    return XXH64_digest(&state_->bytes);
}

tl::expected<void, std::string> check_sizes(const route_trace& trace) {
    const auto within = [](std::uint32_t value, std::uint32_t most) { return value >= 1 && value <= most; };
    if (within(trace.layers, route_trace_layers_max) && within(trace.experts, route_trace_experts_max) &&
        within(trace.top_k, std::min(trace.experts, route_trace_top_k_max)) && trace.hidden <= route_trace_hidden_max)
        return {};
    return tl::unexpected(std::to_string(trace.layers) + " layers of " + std::to_string(trace.experts) +
                          " experts, top " + std::to_string(trace.top_k) + ", " + std::to_string(trace.hidden) +
                          " dimensions; at most " + std::to_string(route_trace_layers_max) + ", " +
                          std::to_string(route_trace_experts_max) + ", " + std::to_string(route_trace_top_k_max) +
                          " and " + std::to_string(route_trace_hidden_max) + ", and no more chosen than there are");
}

bool ascending(std::span<const std::uint16_t> numbers) noexcept {
    return std::adjacent_find(numbers.begin(), numbers.end(), std::greater_equal<>()) == numbers.end();
}

std::optional<std::size_t> find_bad_ids(const route_trace& trace, std::span<const std::uint16_t> ids,
                                        std::vector<std::uint32_t>& seen) {
    // seen[expert] = the last stamp that chose it. Stamps count visits and start over before they wrap.
    std::fill(seen.begin(), seen.end(), 0U);
    std::uint32_t stamp = 0;
    for (std::size_t visit = 0; visit * trace.top_k < ids.size(); ++visit) {
        if (++stamp == 0) {
            std::fill(seen.begin(), seen.end(), 0U);
            stamp = 1;
        }
        for (const auto id : ids.subspan(visit * trace.top_k, trace.top_k)) {
            if (id >= trace.experts || seen[id] == stamp)
                return visit;
            seen[id] = stamp;
        }
    }
    return std::nullopt;
}

} // namespace moira::route_format
