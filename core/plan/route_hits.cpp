#include "core/plan/route_hits.hpp"

#include "core/simulate/store_replay.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

namespace moira {

namespace {

constexpr std::uint64_t tokens_min = 2;

class replayed_hits {
public:
    replayed_hits(route_trace trace, std::string policy, std::function<bool()> interrupted)
        : trace_(std::move(trace)), policy_(std::move(policy)), interrupted_(std::move(interrupted)) {
        for (auto& sequence : trace_.sequences)
            sequence.prompt_tokens = 0;
    }
    replayed_hits(const replayed_hits&) = delete;
    replayed_hits& operator=(const replayed_hits&) = delete;

    result<double> at(std::uint64_t slots, std::uint64_t slots_all) {
        const auto recorded_all = std::uint64_t{trace_.layers} * trace_.experts;
        const double share = static_cast<double>(slots) / static_cast<double>(slots_all);
        const auto wanted = slots_all == recorded_all
                                ? slots
                                : static_cast<std::uint64_t>(std::llround(share * static_cast<double>(recorded_all)));
        if (wanted >= recorded_all)
            return 1.0; // each was loaded once
        if (wanted < trace_.top_k)
            return 0.0;
        if (const auto known = known_.find(wanted); known != known_.end())
            return known->second;
        const auto rate = play(wanted);
        if (rate)
            known_[wanted] = *rate;
        return rate;
    }

    result<std::unique_ptr<eviction_policy>> make_policy() const {
        return make_eviction_policy(policy_, {.layers = trace_.layer_numbers.back() + 1,
                                              .experts = static_cast<std::int32_t>(trace_.experts),
                                              .moe_layers = static_cast<std::int32_t>(trace_.layers)});
    }

private:
    result<double> play(std::uint64_t slots) const {
        const auto policy = make_policy();
        if (!policy)
            return tl::unexpected(policy.error());
        const auto walk = expert_walk::create(trace_, {.steps_max = replayed_tokens_max});
        if (!walk)
            return tl::unexpected(walk.error());
        replay_options options;
        options.slots = static_cast<slot_index>(slots);
        options.warm_up_steps = walk->steps() / 2;
        const auto counts =
            replay_store(*walk, options, **policy, nullptr, [this](double) { return interrupted_ && interrupted_(); });
        if (!counts)
            return tl::unexpected(counts.error());
        return counts->hit_rate();
    }

    route_trace trace_;
    std::string policy_;
    std::function<bool()> interrupted_;
    std::map<std::uint64_t, double> known_; // by slots
};

} // namespace

result<hit_source> hits_of_routes(route_trace trace, const model_demands& demands, std::string policy,
                                  std::function<bool()> interrupted) {
    const auto& moe = demands.shape.moe;
    if (trace.experts != static_cast<std::uint32_t>(moe.experts) ||
        trace.top_k != static_cast<std::uint32_t>(moe.top_k))
        return fail(errc::invalid_argument, "the recording has " + std::to_string(trace.experts) + " experts and top " +
                                                std::to_string(trace.top_k) + ", the model " +
                                                std::to_string(moe.experts) + " and top " + std::to_string(moe.top_k) +
                                                ": record this model's routing");
    if (trace.tokens() < tokens_min || trace.layers == 0 || trace.layer_numbers.size() != trace.layers)
        return fail(errc::invalid_argument, "the recording holds too few tokens to say how often experts return");
    auto hits = std::make_shared<replayed_hits>(std::move(trace), std::move(policy), std::move(interrupted));
    if (const auto made = hits->make_policy(); !made)
        return tl::unexpected(made.error());
    return hit_source([hits](std::uint64_t slots, std::uint64_t slots_all) { return hits->at(slots, slots_all); });
}

} // namespace moira
