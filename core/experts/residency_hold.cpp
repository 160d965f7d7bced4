#include "core/experts/residency_hold.hpp"

#include "core/experts/expert_store_parts.hpp"

#include <utility>

namespace moira {

residency_hold::residency_hold(residency_hold&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), version_(other.version_) {}

residency_hold& residency_hold::operator=(residency_hold&& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(version_, other.version_);
    return *this;
}

residency_hold::~residency_hold() {
    if (store_)
        store_->end_hold();
}

std::optional<residency_hold> expert_store::hold_residents() {
    const std::lock_guard held(impl_->lock);
    const bool all_here = impl_->table.resident() >= static_cast<slot_index>(impl_->sizes.routed_experts);
    if (!all_here || impl_->resizes_waiting > 0)
        return std::nullopt;
    ++impl_->holds;
    return residency_hold(*this, impl_->table.evictions() + impl_->table.loaded());
}

void expert_store::end_hold() noexcept {
    const std::lock_guard held(impl_->lock);
    if (--impl_->holds == 0)
        impl_->holds_over.notify_all();
}

} // namespace moira
