#include "core/pack/coactivation_order.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace moira {

namespace {

constexpr std::uint32_t nobody = UINT32_MAX;

struct expert_pair {
    std::uint64_t together = 0;
    std::uint32_t a = 0, b = 0;
};

std::vector<expert_pair> pairs_by_count(const coactivation_counts& counts) {
    std::vector<expert_pair> pairs;
    for (std::uint32_t a = 0; a < counts.experts(); ++a)
        for (std::uint32_t b = a + 1; b < counts.experts(); ++b)
            if (const auto together = counts.together(a, b); together > 0)
                pairs.push_back({together, a, b});
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const expert_pair& x, const expert_pair& y) { return x.together > y.together; });
    return pairs;
}

/// Chains of experts: each has up to two neighbours, and none is a ring.
class expert_chains {
public:
    explicit expert_chains(std::uint32_t experts) : neighbours_(experts, {nobody, nobody}), chain_(experts) {
        std::iota(chain_.begin(), chain_.end(), 0U);
    }

    void join(std::uint32_t a, std::uint32_t b) {
        if (full(a) || full(b) || find(a) == find(b))
            return;
        attach(a, b);
        attach(b, a);
        chain_[find(a)] = find(b);
    }

    bool is_end(std::uint32_t expert) const { return !full(expert); }

    /// The chain from one end to the other.
    void append_chain(std::uint32_t end, std::vector<std::uint32_t>& order) const {
        for (std::uint32_t before = nobody, at = end; at != nobody;) {
            order.push_back(at);
            const auto& [first, second] = neighbours_[at];
            const auto next = first != before ? first : second;
            before = std::exchange(at, next);
        }
    }

private:
    bool full(std::uint32_t expert) const { return neighbours_[expert][1] != nobody; }
    void attach(std::uint32_t expert, std::uint32_t other) {
        auto& both = neighbours_[expert];
        (both[0] == nobody ? both[0] : both[1]) = other;
    }
    std::uint32_t find(std::uint32_t expert) {
        while (chain_[expert] != expert)
            expert = chain_[expert] = chain_[chain_[expert]];
        return expert;
    }

    std::vector<std::array<std::uint32_t, 2>> neighbours_;
    std::vector<std::uint32_t> chain_;
};

} // namespace

void coactivation_counts::add(std::span<const std::uint16_t> ids) noexcept {
    for (const auto a : ids)
        for (const auto b : ids)
            ++counts_[std::size_t{a} * experts_ + b];
}

std::vector<std::uint32_t> coactivation_order(const coactivation_counts& counts) {
    expert_chains chains(counts.experts());
    for (const auto& pair : pairs_by_count(counts))
        chains.join(pair.a, pair.b);
    std::vector<std::uint32_t> by_use(counts.experts());
    std::iota(by_use.begin(), by_use.end(), 0U);
    std::stable_sort(by_use.begin(), by_use.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return counts.chosen(a) > counts.chosen(b); });
    std::vector<std::uint32_t> order;
    std::vector<bool> placed(counts.experts());
    for (const auto expert : by_use) {
        if (placed[expert] || !chains.is_end(expert))
            continue;
        const auto first = order.size();
        chains.append_chain(expert, order);
        for (std::size_t index = first; index < order.size(); ++index)
            placed[order[index]] = true;
    }
    return order;
}

result<expert_orders> coactivation_orders(const route_trace& trace, const checkpoint& model) {
    const auto& shape = model.shape();
    const auto experts = static_cast<std::uint32_t>(shape.moe.experts);
    if (trace.experts != experts || trace.layer_numbers.size() != trace.layers || trace.layers == 0)
        return fail(errc::invalid_argument, "the recording is of a model with " + std::to_string(trace.experts) +
                                                " experts per layer; this one has " + std::to_string(experts));
    expert_orders orders(static_cast<std::size_t>(shape.layers + shape.mtp_layers));
    for (std::uint32_t layer = 0; layer < trace.layers; ++layer) {
        const std::size_t number = trace.layer_numbers[layer];
        const bool routes = number < shape.layer_is_moe.size() ? shape.layer_is_moe[number] : number < orders.size();
        if (!routes)
            return fail(errc::invalid_argument,
                        "the recording holds layer " + std::to_string(number) + ", which has no experts in this model");
        coactivation_counts counts(experts);
        for (const auto& sequence : trace.sequences)
            for (std::uint32_t token = 0; token < sequence.tokens; ++token) {
                const auto ids = trace.ids(sequence, token, layer);
                if (std::any_of(ids.begin(), ids.end(), [&](std::uint16_t id) { return id >= experts; }))
                    return fail(errc::invalid_argument,
                                "the recording chooses an expert that this model does not have");
                counts.add(ids);
            }
        orders[number] = coactivation_order(counts);
    }
    return orders;
}

std::uint32_t reads_of(std::span<const std::uint16_t> ids, std::span<const std::uint32_t> place_of) noexcept {
    std::uint32_t reads = 0;
    for (const auto id : ids) {
        const bool follows = std::any_of(ids.begin(), ids.end(),
                                         [&](std::uint16_t other) { return place_of[other] + 1 == place_of[id]; });
        reads += !follows;
    }
    return reads;
}

} // namespace moira
