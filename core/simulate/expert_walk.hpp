#pragma once

#include "core/base/error.hpp"
#include "core/route/route_trace.hpp"
#include "core/route/trace_predictor.hpp"

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace moira {

/// How the sequences of a recording are laid side by side.
///
/// Row r of a step begins with sequence r. At its end it goes on with the next one that nobody has begun; when there is
/// none, steps become narrower. With `repeat` row r plays sequences r, r + batch, r + 2 batch, ... modulo their number,
/// for ever: as `moira bench --routes` does.
struct walk_options {
    std::uint32_t batch = 1;       ///< rows of a step
    std::uint32_t prompt_rows = 1; ///< of one sequence, that a step takes together while they are prompt
    bool repeat = false;           ///< steps_max must say when to end then
    std::uint64_t steps_max = std::numeric_limits<std::uint64_t>::max();
};

/// The experts that the layers of one step after another want, as an engine would ask for them. Plain data, made once
/// and played by every policy: 2 bytes per expert wanted.
class expert_walk {
public:
    /// Errors: invalid_argument (a batch or prompt_rows of 0, a recording without tokens, `repeat` without an end,
    /// more than 2^32 visits or wanted experts).
    static result<expert_walk> create(const route_trace& trace, const walk_options& options);

    const route_trace& trace() const noexcept { return *trace_; }
    std::size_t steps() const noexcept { return row_begin_.size() - 1; }
    std::uint64_t tokens() const noexcept { return rows_.size(); }

    /// The rows of a step.
    std::span<const route_position> rows(std::size_t step) const noexcept {
        return std::span(rows_).subspan(row_begin_[step], row_begin_[step + 1] - row_begin_[step]);
    }

    /// Distinct experts that the rows of a step want of a layer (of the recording), ascending.
    std::span<const std::uint16_t> experts(std::size_t step, std::uint32_t layer) const noexcept {
        const auto visit = step * trace_->layers + layer;
        return std::span(wanted_).subspan(wanted_begin_[visit], wanted_begin_[visit + 1] - wanted_begin_[visit]);
    }

    /// All visits in order: visit = step x layers + layer.
    std::size_t visits() const noexcept { return wanted_begin_.size() - 1; }
    std::span<const std::uint16_t> wanted() const noexcept { return wanted_; }
    std::size_t wanted_begin(std::size_t visit) const noexcept { return wanted_begin_[visit]; }
    std::span<const std::uint32_t> wanted_begins() const noexcept { return wanted_begin_; } ///< [visits + 1]

private:
    explicit expert_walk(const route_trace& trace) : trace_(&trace) {}
    void add_step(std::span<const route_position> rows, std::vector<bool>& seen);

    const route_trace* trace_;
    std::vector<route_position> rows_;
    std::vector<std::uint32_t> row_begin_{0}, wanted_begin_{0}; // one more than steps, visits
    std::vector<std::uint16_t> wanted_;
};

} // namespace moira
