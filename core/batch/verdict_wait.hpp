#pragma once

#include "core/batch/step_plan.hpp"
#include "core/speculate/draft_verifier.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

namespace moira {

/// Brings the result of a step and the verifier's verdict on it together, whichever comes first. A result of a step with
/// drafts waits for its verdict, which holds the next proposals, but not for long: a verifier that is late once is not
/// waited for until a verdict comes in time. Plain state; whoever drives it keeps the clock and the timer.
class verdict_wait {
public:
    using time_point = std::chrono::steady_clock::time_point;
    using result_ptr = std::shared_ptr<const step_result>;
    using verdict_ptr = std::shared_ptr<const step_verdict>;

    /// A step to go on with; its verdict may be null.
    struct judged_step {
        result_ptr result;
        verdict_ptr verdict;
    };

    /// What becomes of a verdict. concludes: take() the step that waited for it. kept: its step is still running.
    /// late: the step went on without it; only its proposals are of use.
    enum class arrival { concludes, kept, late };

    /// There is a verifier from now on, or none; nothing is known about how fast it is. What waits must be taken.
    void verifier_changed(bool present) noexcept;

    void step_begins(std::uint64_t number) noexcept;

    /// False: not waited for a verdict, go on with take_judged(). `drafts`: the step holds some.
    bool holds(const result_ptr& outcome, bool drafts, time_point now);

    arrival verdict_came(const verdict_ptr& verdict);

    /// The result that waits, without a verdict unless one concluded it; none waits: nullopt.
    std::optional<judged_step> take();

    /// The verdict on a result that did not wait, if it was there first.
    judged_step take_judged(const result_ptr& outcome);

    bool waiting() const noexcept { return held_ != nullptr; }

    /// Since when a result has waited for too long: then the verifier counts as late.
    bool overdue(time_point now, std::chrono::steady_clock::duration wait_max) noexcept;

private:
    bool present_ = false;
    bool late_ = false;        // a verdict was overdue: not waited for until one comes in time
    std::uint64_t step_ = 0;   // the latest that began
    bool running_ = false;     // its result has not come yet
    verdict_ptr verdict_;      // came before its step's result, or concludes the one that is held
    result_ptr held_;          // came before its verdict
    time_point held_since_{};
};

} // namespace moira
