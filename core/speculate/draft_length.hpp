#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// How often the drafts of one sequence were right lately: the probability that a drafted token is accepted when all
/// before it were. Old tests fade, because texts change from copying to inventing and back.
class acceptance_estimate {
public:
    /// A step verified `drafted` tokens, of which the first `accepted` were right.
    void note(std::size_t drafted, std::size_t accepted) noexcept;

    double probability() const noexcept { return right_ / tested_; }

private:
    // A hopeful beginning: two tests, one of them passed. A few wrong drafts outweigh it.
    double right_ = 1, tested_ = 2;
};

/// What a decoding step costs by its number of rows: a straight line through the steps measured lately (least squares,
/// old steps fade). What rows cost includes the experts that they add to the union, and the loads of those. Any unit of
/// time; knows no clock.
class step_cost {
public:
    void note(std::int32_t rows, double cost) noexcept;

    /// 0 while nothing was measured.
    double of(std::int32_t rows) const noexcept;

    /// Of one more row; 0 while only one number of rows was seen, so that others are tried. Never negative.
    double per_row() const noexcept { return slope_; }

private:
    double weight_ = 0, rows_ = 0, cost_ = 0; ///< weight, weighted means
    double rows_spread_ = 0, shared_spread_ = 0;
    double slope_ = 0;
};

/// A sequence that could draft.
struct draft_candidate {
    std::size_t length_max = 0; ///< tokens that its source offers and that have room
    double probability = 0;     ///< of a token to be accepted after all before it were
};

/// Chooses how many tokens each sequence drafts in the next step: rows are added in falling order of their chance to be
/// accepted as long as tokens per cost of the step grow. Nothing is always possible; after many steps of nothing, one
/// token is drafted to see whether the text or the costs have changed. Plain state, no clock.
class draft_control {
public:
    /// Below a percent of all rows, so that looking again costs nothing that can be measured.
    static constexpr std::int32_t idle_steps_max = 128;

    /// A decoding step of so many rows, drafted ones included, took `cost`.
    void note_step(std::int32_t rows, double cost) noexcept { cost_.note(rows, cost); }

    /// One more token drafted by the model, for all sequences together, took `cost`; in the unit of note_step.
    void note_draft(double cost) noexcept;

    /// The least chance at which a token is worth drafting by the model, when each of `tokens` sampling sequences of a
    /// step of `rows` rows does so: its row in the next step and its part of the drafting pass against what a step
    /// costs now.
    double chance_min(std::int32_t rows, std::int32_t tokens) const noexcept;

    /// `rows`: of the step without drafts; `tokens`: sampled by it without drafts; `rows_free`: drafted rows that fit.
    std::vector<std::size_t> choose(std::span<const draft_candidate> candidates, std::int32_t rows, std::int32_t tokens,
                                    std::int32_t rows_free);

private:
    step_cost cost_;
    double draft_cost_ = 0; ///< of a drafting pass lately
    std::int32_t idle_steps_ = 0;
};

} // namespace moira
