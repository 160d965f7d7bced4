#include "core/plan/route_hits.hpp"

#include "core/experts/miss_curve.hpp"

namespace moira {

namespace {

/// Between them a straight line is closer than a recording is to tomorrow's text.
constexpr std::size_t points = 65;

} // namespace

result<hit_curve> hits_of_routes(const route_trace& trace, const model_demands& demands) {
    const auto& moe = demands.shape.moe;
    if (trace.experts != static_cast<std::uint32_t>(moe.experts) ||
        trace.top_k != static_cast<std::uint32_t>(moe.top_k))
        return fail(errc::invalid_argument, "the recording has " + std::to_string(trace.experts) + " experts and top " +
                                                std::to_string(trace.top_k) + ", the model " +
                                                std::to_string(moe.experts) + " and top " + std::to_string(moe.top_k) +
                                                ": record this model's routing");
    miss_curve seen(static_cast<std::int32_t>(trace.layers), static_cast<std::int32_t>(trace.experts));
    for (const auto& sequence : trace.sequences)
        for (std::uint32_t token = 0; token < sequence.tokens; ++token)
            for (std::uint32_t layer = 0; layer < trace.layers; ++layer)
                for (const auto expert : trace.ids(sequence, token, layer))
                    seen.visit({static_cast<std::int32_t>(layer), static_cast<std::int32_t>(expert)});
    const auto repeated = static_cast<double>(seen.visits() - seen.first_visits());
    if (repeated <= 0)
        return fail(errc::invalid_argument, "the recording holds too few tokens to say how often experts return");
    const auto all = std::uint64_t{trace.layers} * trace.experts;
    hit_curve curve;
    for (std::size_t point = 0; point < points; ++point)
        curve.hits.push_back(1 - seen.repeated_loads(all * point / (points - 1)) / repeated);
    return curve;
}

} // namespace moira
