#include "core/experts/optimal_loads.hpp"

#include <algorithm>
#include <limits>

namespace moira {
namespace {

constexpr std::uint32_t never = std::numeric_limits<std::uint32_t>::max();

/// By use: the visit that wants the same expert next; by expert: the visit that wants it first.
struct future_visits {
    std::vector<std::uint32_t> of_use, of_expert;
};

future_visits look_ahead(const visit_list& visits) {
    future_visits next;
    next.of_use.resize(visits.wanted.size());
    next.of_expert.assign(std::size_t{visits.layers} * visits.experts, never);
    for (std::size_t visit = visits.visits(); visit-- > 0;)
        for (std::size_t place = visits.wanted_begin[visit]; place < visits.wanted_begin[visit + 1]; ++place) {
            auto& of_expert = next.of_expert[visits.index_of(visit, place)];
            next.of_use[place] = of_expert;
            of_expert = static_cast<std::uint32_t>(visit);
        }
    return next;
}

/// Residents by their next visit. The heap also holds what has been overtaken by a newer visit of the same expert;
/// that is recognised when it comes to the top.
class kept_experts {
public:
    explicit kept_experts(std::size_t experts) : key_(experts, 0) {}

    bool holds(std::size_t expert) const noexcept { return key_[expert] != 0; }
    std::uint64_t count() const noexcept { return count_; }

    void keep(std::size_t expert, std::uint32_t next_visit) {
        count_ += key_[expert] == 0;
        key_[expert] = next_visit == never ? never : next_visit + 1; // 0: not resident
        heap_.push_back(std::uint64_t{key_[expert]} << 32 | expert);
        std::push_heap(heap_.begin(), heap_.end());
        if (heap_.size() > 2 * count_ + overtaken_max)
            forget_overtaken();
    }

    /// Precondition: there is one.
    void drop_farthest() {
        while (!is_current(heap_.front()))
            pop();
        key_[expert_of(heap_.front())] = 0;
        pop();
        --count_;
    }

private:
    /// More than these are worth a walk over all.
    static constexpr std::size_t overtaken_max = 4096;

    static std::size_t expert_of(std::uint64_t entry) noexcept { return entry & never; }
    bool is_current(std::uint64_t entry) const noexcept { return key_[expert_of(entry)] == entry >> 32; }

    void pop() {
        std::pop_heap(heap_.begin(), heap_.end());
        heap_.pop_back();
    }

    void forget_overtaken() {
        std::erase_if(heap_, [this](std::uint64_t entry) { return !is_current(entry); });
        std::make_heap(heap_.begin(), heap_.end());
    }

    std::vector<std::uint32_t> key_;
    std::vector<std::uint64_t> heap_; // key << 32 | expert
    std::uint64_t count_ = 0;
};

} // namespace

optimal_counts count_optimal_loads(const visit_list& visits, const optimum_wish& wish) {
    const auto next = look_ahead(visits);
    kept_experts kept(next.of_expert.size());
    for (const auto expert : wish.resident)
        kept.keep(expert, next.of_expert[expert]);
    optimal_counts counts;
    counts.layer_loads.resize(visits.layers);
    for (std::size_t visit = 0; visit < visits.visits(); ++visit) {
        const std::size_t begin = visits.wanted_begin[visit], end = visits.wanted_begin[visit + 1];
        std::uint64_t missing = 0;
        for (auto place = begin; place < end; ++place)
            missing += !kept.holds(visits.index_of(visit, place));
        if (visit >= wish.first_counted) {
            counts.loads += missing;
            counts.hits += end - begin - missing;
            counts.layer_loads[visits.layer[visit]] += missing;
        }
        // The experts of this visit have the nearest key of all, this visit: they leave last.
        while (!wish.bypass && end - begin <= wish.slots && kept.count() + missing > wish.slots)
            kept.drop_farthest();
        for (auto place = begin; place < end; ++place)
            kept.keep(visits.index_of(visit, place), next.of_use[place]);
        while (kept.count() > wish.slots)
            kept.drop_farthest();
    }
    return counts;
}

} // namespace moira
