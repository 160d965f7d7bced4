#include "core/simulate/optimal_replay.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace moira {
namespace {

constexpr std::uint32_t never = std::numeric_limits<std::uint32_t>::max();

/// [wanted]: the visit that wants the same expert next.
std::vector<std::uint32_t> next_visits(const expert_walk& walk) {
    const auto wanted = walk.wanted();
    const auto layers = walk.trace().layers;
    std::vector<std::uint32_t> next(wanted.size());
    std::vector<std::uint32_t> latest(std::size_t{layers} * walk.trace().experts, never);
    for (std::size_t visit = walk.visits(); visit-- > 0;)
        for (auto place = walk.wanted_begin(visit); place < walk.wanted_begin(visit + 1); ++place) {
            auto& of_expert = latest[visit % layers * walk.trace().experts + wanted[place]];
            next[place] = of_expert;
            of_expert = static_cast<std::uint32_t>(visit);
        }
    return next;
}

/// Residents by their next visit; a dense array, because a maximum over a few thousand numbers in a row is faster than
/// any tree that changes with every hit.
class residents {
public:
    explicit residents(std::size_t experts) : key_(experts, 0) {}

    bool holds(std::size_t expert) const noexcept { return key_[expert] != 0; }

    void keep(std::size_t expert, std::uint32_t next_visit) noexcept {
        count_ += key_[expert] == 0;
        key_[expert] = next_visit == never ? never : next_visit + 1; // 0: not resident
    }

    void drop_farthest() noexcept {
        std::uint32_t farthest = 0;
        for (const auto key : key_)
            farthest = std::max(farthest, key);
        *std::find(key_.begin(), key_.end(), farthest) = 0;
        --count_;
    }

    std::uint64_t count() const noexcept { return count_; }

private:
    std::vector<std::uint32_t> key_;
    std::uint64_t count_ = 0;
};

} // namespace

optimal_counts replay_optimally(const expert_walk& walk, std::uint64_t slots, bool bypass,
                                std::uint64_t warm_up_steps) {
    const auto next = next_visits(walk);
    const auto experts = walk.trace().experts, layers = walk.trace().layers;
    residents kept(std::size_t{layers} * experts);
    optimal_counts counts;
    for (std::size_t visit = 0; visit < walk.visits(); ++visit) {
        const auto begin = walk.wanted_begin(visit), end = walk.wanted_begin(visit + 1);
        const auto base = visit % layers * experts;
        const auto wanted = walk.wanted();
        std::uint64_t missing = 0;
        for (auto place = begin; place < end; ++place)
            missing += !kept.holds(base + wanted[place]);
        if (visit / layers >= warm_up_steps) {
            counts.loads += missing;
            counts.hits += end - begin - missing;
        }
        // The experts of this visit have the nearest key of all, this visit: they leave last.
        while (!bypass && end - begin <= slots && kept.count() + missing > slots)
            kept.drop_farthest();
        for (auto place = begin; place < end; ++place)
            kept.keep(base + wanted[place], next[place]);
        while (kept.count() > slots)
            kept.drop_farthest();
    }
    return counts;
}

} // namespace moira
