#include "tools/moira/run_summary.hpp"

#include <array>
#include <cstdio>

namespace moira {

std::string_view limiting_part(const runtime_statistics& statistics) noexcept {
    if (statistics.compute_s <= 0)
        return "nothing";
    // compute_s is the time of whole steps, waiting included.
    return statistics.stall_s * 2 >= statistics.compute_s ? "reading experts" : "computing";
}

std::string ending_of(const generation_result& outcome, std::int32_t context_max) {
    switch (outcome.reason) {
    case finish_reason::stop:
        return "the end of the text";
    case finish_reason::cancelled:
        return "Ctrl-C";
    case finish_reason::error:
        return "an error";
    case finish_reason::length:
        break;
    }
    if (outcome.prompt_tokens + outcome.completion_tokens >= context_max)
        return "the full context";
    return "the limit of " + std::to_string(outcome.completion_tokens) + " tokens";
}

/// What pruning did to the text; nothing where every chosen expert ran.
static std::string pruning_summary(const expert_store_statistics& experts) {
    if (!experts.pruning || experts.pruning->all.routings == 0)
        return {};
    const auto& counted = experts.pruning->all;
    const auto share = [&counted](std::uint64_t part) {
        return 100.0 * static_cast<double>(part) / static_cast<double>(counted.routings);
    };
    std::array<char, 96> words{};
    std::snprintf(words.data(), words.size(), "; lossy: %.1f %% of the routings left out, %.1f %% replaced",
                  share(counted.left_out), share(counted.replaced));
    return words.data();
}

std::string run_summary(const runtime_statistics& statistics, const generation_result& outcome,
                        std::int32_t context_max) {
    const auto& experts = statistics.experts;
    const double waited = statistics.compute_s > 0 ? 100 * statistics.stall_s / statistics.compute_s : 0;
    const double speed = outcome.decode_s > 0 ? (outcome.completion_tokens - 1) / outcome.decode_s : 0;
    std::array<char, 400> line{};
    std::snprintf(line.data(), line.size(),
                  "%d + %d tokens, %.0f tokens/s, first after %.1f ms, experts %llu of %llu slots, hit rate %.1f %%, "
                  "%.0f %% of the time waited for experts: ",
                  outcome.prompt_tokens, outcome.completion_tokens, speed, outcome.ttft_s * 1e3,
                  static_cast<unsigned long long>(experts.resident), static_cast<unsigned long long>(experts.slots),
                  100 * experts.hit_rate(), waited);
    return std::string(line.data()) + "limited by " + std::string(limiting_part(statistics)) + "; ended by " +
           ending_of(outcome, context_max) + pruning_summary(experts);
}

} // namespace moira
