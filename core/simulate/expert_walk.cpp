#include "core/simulate/expert_walk.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace moira {
namespace {

/// Places are 32 bits wide.
constexpr std::uint64_t places_max = std::numeric_limits<std::uint32_t>::max();

/// The rows of a batch and where each of them is.
class batch_rows {
public:
    batch_rows(const route_trace& trace, const walk_options& options)
        : trace_(trace), options_(options), begun_(std::min<std::size_t>(options.batch, trace.sequences.size())) {
        for (std::uint32_t sequence = 0; sequence < begun_; ++sequence)
            at_.push_back({sequence, 0});
        // Fewer sequences than rows: some are played twice at once.
        while (options.repeat && at_.size() < options.batch)
            at_.push_back({static_cast<std::uint32_t>(at_.size() % trace.sequences.size()), 0});
    }

    bool over() const noexcept { return at_.empty(); }

    /// Takes the rows of one step.
    void take(std::vector<route_position>& rows) {
        for (auto& at : at_) {
            const auto& sequence = trace_.sequences[at.sequence];
            const auto prompt_left = at.token < sequence.prompt_tokens ? sequence.prompt_tokens - at.token : 0;
            const auto count = std::min(std::max(prompt_left, 1U), options_.prompt_rows);
            for (std::uint32_t row = 0; row < count; ++row, ++at.token)
                rows.push_back(at);
            if (at.token == sequence.tokens)
                at = after(at);
        }
        std::erase_if(at_, [this](route_position at) { return at.sequence >= trace_.sequences.size(); });
    }

private:
    route_position after(route_position at) {
        const auto sequences = static_cast<std::uint32_t>(trace_.sequences.size());
        if (options_.repeat)
            return {static_cast<std::uint32_t>((std::uint64_t{at.sequence} + options_.batch) % sequences), 0};
        return {begun_ < sequences ? static_cast<std::uint32_t>(begun_++) : sequences, 0};
    }

    const route_trace& trace_;
    walk_options options_;
    std::size_t begun_;
    std::vector<route_position> at_;
};

result<void> check(const route_trace& trace, const walk_options& options) {
    if (options.batch < 1 || options.prompt_rows < 1)
        return fail(errc::invalid_argument, "a step of no rows plays nothing: batch and prompt rows are at least 1");
    if (trace.sequences.empty() || trace.sequences.size() >= places_max)
        return fail(errc::invalid_argument, "a recording without sequences cannot be played");
    for (const auto& sequence : trace.sequences)
        if (sequence.tokens == 0 || sequence.prompt_tokens > sequence.tokens ||
            sequence.ids.size() != std::size_t{sequence.tokens} * trace.layers * trace.top_k)
            return fail(errc::invalid_argument, "a sequence without tokens or without ids for them cannot be played");
    if (options.repeat && options.steps_max == std::numeric_limits<std::uint64_t>::max())
        return fail(errc::invalid_argument, "a recording that is repeated needs a number of steps");
    return {};
}

} // namespace

result<expert_walk> expert_walk::create(const route_trace& trace, const walk_options& options) {
    if (auto done = check(trace, options); !done)
        return tl::unexpected(done.error());
    expert_walk walk(trace);
    batch_rows batch(trace, options);
    std::vector<bool> seen(trace.experts);
    std::vector<route_position> rows;
    while (!batch.over() && walk.steps() < options.steps_max) {
        rows.clear();
        batch.take(rows);
        const auto most = std::min<std::uint64_t>(rows.size() * trace.top_k, trace.experts) * trace.layers;
        if (walk.wanted_.size() + most > places_max || walk.rows_.size() + rows.size() > places_max)
            return fail(errc::invalid_argument, "the recording is too long to be played at once: " +
                                                    std::to_string(places_max) + " wanted experts are the most");
        walk.add_step(rows, seen);
    }
    if (walk.steps() == 0)
        return fail(errc::invalid_argument, "no step of the recording was asked for");
    return walk;
}

void expert_walk::add_step(std::span<const route_position> rows, std::vector<bool>& seen) {
    rows_.insert(rows_.end(), rows.begin(), rows.end());
    row_begin_.push_back(static_cast<std::uint32_t>(rows_.size()));
    for (std::uint32_t layer = 0; layer < trace_->layers; ++layer) {
        const auto first = wanted_.size();
        for (const auto at : rows)
            for (const auto id : trace_->ids(trace_->sequences[at.sequence], at.token, layer))
                if (!seen[id]) {
                    seen[id] = true;
                    wanted_.push_back(id);
                }
        const auto made = std::span(wanted_).subspan(first);
        std::sort(made.begin(), made.end());
        for (const auto id : made)
            seen[id] = false;
        wanted_begin_.push_back(static_cast<std::uint32_t>(wanted_.size()));
    }
}

} // namespace moira
