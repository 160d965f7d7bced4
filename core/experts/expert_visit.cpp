#include "core/experts/expert_visit.hpp"

#include "core/experts/expert_store_parts.hpp"

#include <algorithm>

namespace moira {

/// Precondition: the wish was checked.
std::unique_ptr<expert_visit::impl> expert_store::impl::begin_visit(const visit_wish& wish) {
    std::unique_ptr<visit> begun;
    if (spare_visits.empty()) {
        begun = std::make_unique<visit>();
    } else {
        begun = std::move(spare_visits.back());
        spare_visits.pop_back();
    }
    for (const bool here : {true, false}) {
        for (const std::int32_t expert : wish.experts)
            if (shows(wish.layer, expert) == here)
                begun->order.push_back(expert);
        if (here)
            begun->residents = begun->order.size();
    }
    return begun;
}

void expert_store::impl::end_visit(std::unique_ptr<visit> ended, double stall_s) {
    learn_stall(ended->members, stall_s);
    if (!ended->holds_none()) {
        for (const wave_member& member : std::span(ended->members).subspan(ended->released))
            end_pin(member);
        slots_changed();
    }
    ended->order.clear();
    ended->members.clear();
    ended->named.clear();
    ended->failed.clear();
    ended->residents = ended->released = 0;
    spare_visits.push_back(std::move(ended));
}

void expert_store::impl::pin_next(visit& of, const visit_wish& wish, std::size_t count) {
    const std::size_t asked = of.members.size();
    const auto next = std::span<const std::int32_t>(of.order).subspan(asked, count);
    pin({wish.layer, next, wish.drafted, wish.prompt_only}, asked > 0, of.members);
}

/// The next experts, as many as may be pinned; waits for slots where the visit holds none.
result<void> expert_store::impl::send_for_more(visit& of, const visit_wish& wish, std::unique_lock<std::mutex>& held) {
    if (of.holds_none() && !of.all_asked()) {
        const std::size_t asked = of.members.size();
        const auto slots = static_cast<std::size_t>(table.slots());
        const std::size_t count = asked < of.residents ? std::min(of.residents - asked, slots) : 1;
        // A resize while this waits may leave fewer slots: then one after the other.
        const auto next = std::span<const std::int32_t>(of.order).subspan(asked, count);
        const bool fits = wait_for_slots(wish.layer, next, held).has_value();
        if (!fits)
            if (auto possible = wait_for_slots(wish.layer, next.first(1), held); !possible)
                return possible;
        pin_next(of, wish, fits ? count : 1);
    }
    send_for_absent(of, wish);
    return {};
}

/// As many as may travel and fit, without waiting.
void expert_store::impl::send_for_absent(visit& of, const visit_wish& wish) {
    while (of.members.size() >= of.residents && !of.all_asked() && of.travelling() < travelling_max() &&
           next_ticket == served_ticket &&
           table.fits(wish.layer, std::span<const std::int32_t>(of.order).subspan(of.members.size(), 1)))
        pin_next(of, wish, 1);
}

/// In the order in which they began: residents together, the others one by one, each making room for another. No
/// further than where the last one is sent for: then hints are given, and what is pinned decides what may leave for
/// them.
void expert_store::impl::end_named_pins(visit& of, const visit_wish& wish) {
    const auto first = of.released;
    const bool had_more = !of.all_asked();
    const auto named = [](const wave_member& member) { return member.named; };
    if (of.released < of.residents) {
        const auto end = std::min(of.members.size(), of.residents);
        const auto together = std::span(of.members).subspan(of.released, end - of.released);
        if (!std::all_of(together.begin(), together.end(), named))
            return;
        for (const wave_member& member : together)
            end_pin(member);
        of.released = end;
        send_for_absent(of, wish);
    }
    while (of.released >= of.residents && !of.holds_none() && of.members[of.released].named &&
           !(had_more && of.all_asked())) {
        end_pin(of.members[of.released++]);
        send_for_absent(of, wish);
    }
    if (of.released != first)
        slots_changed();
}

result<void> expert_store::impl::name_arrived(visit& of) {
    const error* why = nullptr;
    for (std::size_t index = of.released; index < of.members.size(); ++index) {
        wave_member& member = of.members[index];
        if (member.named || !member.here())
            continue;
        if (member.load && member.load->state != load_state::done) {
            why = &member.load->failure;
            of.failed.push_back(of.order[index]);
            continue;
        }
        member.named = true;
        of.named.push_back({of.order[index], member.generation});
    }
    return why ? tl::unexpected(*why) : result<void>();
}

expert_visit::expert_visit(expert_store& store, const visit_wish& wish) noexcept : store_(&store), wish_(wish) {}

result<std::span<const pinned_expert>> expert_visit::next() {
    auto& store = *store_->impl_;
    std::unique_lock held(store.lock);
    const bool begins = !impl_;
    if (over_)
        return std::span<const pinned_expert>();
    if (begins) {
        if (auto fine = store.check_experts(wish_.layer, wish_.experts); !fine)
            return tl::unexpected(fine.error());
        impl_ = store.begin_visit(wish_);
    }
    auto& now = *impl_;
    now.named.clear();
    const bool had_more = begins || !now.all_asked();
    store.end_named_pins(now, wish_);
    if (auto sent = store.send_for_more(now, wish_, held); !sent)
        return tl::unexpected(sent.error());
    all_asked_ = now.all_asked();
    if (now.holds_none()) { // and nothing is left to ask for
        store.end_visit(std::move(impl_), stall_s_);
        over_ = true;
        return std::span<const pinned_expert>();
    }
    auto fine = store.name_arrived(now);
    if (fine && now.named.empty() && !(had_more && all_asked_)) {
        const auto begin = std::chrono::steady_clock::now();
        store.wait_for_some(std::span(now.members).subspan(now.released), held);
        stall_s_ += store.note_stall(wish_.layer, begin);
        fine = store.name_arrived(now);
    }
    if (!fine) {
        // What travels comes to its end: so all that failed is known at once, and no later visit meets these reads.
        store.wait_for_all(std::span(now.members).subspan(now.released), held);
        now.failed.clear();
        fine = store.name_arrived(now);
        return tl::unexpected(fine.error());
    }
    const auto pinned = std::span(now.members).subspan(now.released);
    all_named_ =
        all_asked_ && std::all_of(pinned.begin(), pinned.end(), [](const wave_member& member) { return member.named; });
    return std::span<const pinned_expert>(now.named);
}

std::span<const std::int32_t> expert_visit::failed() const noexcept {
    return impl_ ? std::span<const std::int32_t>(impl_->failed) : std::span<const std::int32_t>();
}

expert_visit::~expert_visit() {
    if (!impl_)
        return;
    const std::lock_guard held(store_->impl_->lock);
    store_->impl_->end_visit(std::move(impl_), stall_s_);
}

} // namespace moira
