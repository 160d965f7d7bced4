#pragma once

#include "core/experts/expert_store.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace moira {

/// An expert that is in memory and pinned, with the generation to expect in its entry of the store's table.
struct pinned_expert {
    std::int32_t expert = 0;
    std::uint32_t generation = 0;
};

/// Experts that one step wants of a layer (distinct); `drafted` and `prompt_only` as expert_store::acquire().
struct visit_wish {
    std::int32_t layer = 0;
    std::span<const std::int32_t> experts, drafted = {}, prompt_only = {};
};

/// One visit of a layer. Those of its experts that are in memory come first and together: a load must not evict what
/// the same visit would have found. The absent ones follow in the order of the wish, each in a wave of its own and
/// expert_store::travelling_max() on their way at a time, so that those which the policy does not want to keep pass
/// through a few slots; they are named as they arrive. What is pinned and given up when does not depend on which
/// arrives first: pins end in the order in which they began, so that a simulator decides alike.
///
/// A visit that finds everything in memory takes the store's lock twice and allocates nothing, once earlier visits have
/// left it memory to use again; an absent expert takes the lock about once. Belongs to one thread, which holds no lease
/// of the store.
class expert_visit {
public:
    /// `store`, and what `wish` points to, outlive the visit.
    expert_visit(expert_store& store, const visit_wish& wish) noexcept;

    /// Ends all pins; loads that nobody has begun are taken back.
    ~expert_visit();
    expert_visit(const expert_visit&) = delete;
    expert_visit& operator=(const expert_visit&) = delete;

    /// Ends the pins of experts that earlier calls named, sends for more, and names experts that may be computed, until
    /// the next call. Waits until there are any, but names none where the last ones have just been sent for: a good
    /// moment for hints, which so queue behind them. Errors: io_error, corrupt_file: a load failed, see failed();
    /// invalid_argument (twice the same expert, out of range). After an error the visit is to be given up.
    result<std::span<const pinned_expert>> next();

    /// Every expert has been sent for.
    bool all_asked() const noexcept { return all_asked_; }

    /// Every expert has been named; pins of some may not be over.
    bool all_named() const noexcept { return all_named_; }

    /// Every expert has been named, and their pins are over.
    bool over() const noexcept { return over_; }

    /// The experts whose loads failed, in the order of the wish; until then none.
    std::span<const std::int32_t> failed() const noexcept;

    /// Time that next() waited for experts.
    double stall_s() const noexcept { return stall_s_; }

private:
    friend class expert_store;
    struct impl;

    expert_store* store_;
    visit_wish wish_;
    std::unique_ptr<impl> impl_; ///< of the store's own, once the visit has begun
    double stall_s_ = 0;
    bool all_asked_ = false, all_named_ = false, over_ = false;
};

} // namespace moira
