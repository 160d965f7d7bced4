#include "core/batch/verdict_wait.hpp"

#include <utility>

namespace moira {

void verdict_wait::verifier_changed(bool present) noexcept {
    present_ = present;
    late_ = false;
    verdict_ = nullptr;
}

void verdict_wait::step_begins(std::uint64_t number) noexcept {
    step_ = number;
    running_ = true;
}

bool verdict_wait::holds(const result_ptr& outcome, bool drafts, time_point now) {
    const bool judged = verdict_ && verdict_->step == outcome->number;
    if (!present_ || late_ || judged || outcome->failure || outcome->number != step_ || !drafts)
        return false;
    held_ = outcome;
    held_since_ = now;
    return true;
}

verdict_wait::arrival verdict_wait::verdict_came(const verdict_ptr& verdict) {
    late_ = late_ && verdict->step < step_;
    const bool awaited = held_ && verdict->step == held_->number;
    if (!awaited && !(running_ && verdict->step == step_))
        return arrival::late;
    verdict_ = verdict;
    return awaited ? arrival::concludes : arrival::kept;
}

std::optional<verdict_wait::judged_step> verdict_wait::take() {
    if (!held_)
        return std::nullopt;
    return take_judged(std::exchange(held_, nullptr));
}

verdict_wait::judged_step verdict_wait::take_judged(const result_ptr& outcome) {
    running_ = false;
    auto verdict = std::exchange(verdict_, nullptr);
    if (verdict && verdict->step != outcome->number)
        verdict = nullptr;
    return {outcome, std::move(verdict)};
}

bool verdict_wait::overdue(time_point now, std::chrono::steady_clock::duration wait_max) noexcept {
    if (!held_ || now - held_since_ < wait_max)
        return false;
    late_ = true;
    return true;
}

} // namespace moira
