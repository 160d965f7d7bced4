#pragma once

#include "core/route/trace_predictor.hpp"

#include <array>
#include <cstdint>
#include <string>

namespace moira {

/// Ranks at which predictors are compared: as many experts as are chosen, half as many more, and twice as many.
inline constexpr std::size_t judged_ranks = 3;

/// How good a predictor is on a recording.
struct predictor_judgement {
    std::string name;
    std::uint64_t tokens = 0, chosen = 0; ///< experts that the judged layers chose
    std::uint64_t misses = 0;             ///< of them: absent from the cache
    std::array<std::uint32_t, judged_ranks> ranks{};
    std::array<std::uint64_t, judged_ranks> found{};            ///< of the chosen: among the first so many predicted
    std::array<std::uint64_t, judged_ranks> predicted_absent{}; ///< predicted and absent
    std::array<std::uint64_t, judged_ranks> absent_found{};     ///< of those: chosen

    double recall(std::size_t at) const noexcept { return share(found[at], chosen); }
    /// Of what an LRU cache misses, and what predictions beside the cache are right about.
    double misses_covered(std::size_t at) const noexcept { return share(absent_found[at], misses); }
    double precision_absent(std::size_t at) const noexcept { return share(absent_found[at], predicted_absent[at]); }
    double miss_rate() const noexcept { return share(misses, chosen); }

private:
    static double share(std::uint64_t part, std::uint64_t all) noexcept {
        return all == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(all);
    }
};

struct judgement_options {
    double cache_share = 0.25;        ///< of all experts: slots of one LRU cache over all layers
    std::uint32_t first_sequence = 0; ///< those before are learnt from and not judged
    std::uint32_t first_layer = 1;    ///< those before are not judged: as many layers ahead as the predictor looks
};

/// Runs the recording through `predictor`, one sequence after another, beside a cache that only loads on demand.
predictor_judgement judge_predictor(trace_predictor& predictor, const route_trace& trace,
                                    const judgement_options& options = {});

} // namespace moira
