#include "core/simulate/route_synthesis.hpp"

#include "core/route/split_mix.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>

namespace moira {
namespace {

/// 2^28 choices are 1.6 GB in memory.
constexpr std::uint64_t choices_max = std::uint64_t{1} << 28;

/// Zeroed sequences of the wanted size.
result<route_trace> make_empty(const route_synthesis& wanted) {
    const auto within = [](std::uint32_t value, std::uint32_t most) { return value >= 1 && value <= most; };
    if (!within(wanted.layers, route_trace_layers_max) || !within(wanted.experts, route_trace_experts_max) ||
        !within(wanted.top_k, std::min(wanted.experts, route_trace_top_k_max)))
        return fail(errc::invalid_argument, std::to_string(wanted.layers) + " layers of " +
                                                std::to_string(wanted.experts) + " experts, top " +
                                                std::to_string(wanted.top_k) + " cannot be recorded");
    if (wanted.sequences < 1 || wanted.tokens < wanted.sequences)
        return fail(errc::invalid_argument, std::to_string(wanted.tokens) + " tokens do not make " +
                                                std::to_string(wanted.sequences) + " sequences");
    const auto per_token = std::uint64_t{wanted.layers} * wanted.top_k; // at most 2^20
    if (wanted.tokens * per_token > choices_max)
        return fail(errc::invalid_argument, "more than " + std::to_string(choices_max) + " choices");
    route_trace made{.layers = wanted.layers, .experts = wanted.experts, .top_k = wanted.top_k};
    made.layer_numbers.resize(wanted.layers);
    std::iota(made.layer_numbers.begin(), made.layer_numbers.end(), std::uint16_t{0});
    for (std::uint32_t index = 0; index < wanted.sequences; ++index) {
        route_sequence sequence;
        sequence.tokens = wanted.tokens / wanted.sequences + (index < wanted.tokens % wanted.sequences ? 1 : 0);
        sequence.ids.resize(sequence.tokens * per_token);
        sequence.weights.assign(sequence.ids.size(), 1.0F / static_cast<float>(wanted.top_k));
        made.sequences.push_back(std::move(sequence));
    }
    return made;
}

/// One layer: the groups of experts that the source's experts stand for.
class layer_likeness {
public:
    layer_likeness(const route_trace& source, std::uint32_t source_layer, const route_synthesis& wanted,
                   std::uint32_t layer)
        : source_(source), source_layer_(source_layer), wanted_(wanted),
          random_(split_mix::mix(wanted.seed) ^ split_mix::mix(layer + 1)),
          groups_(std::min(source.experts, wanted.experts)), members_(groups_), taken_(wanted.experts) {
        // A permutation, so that popular experts of different layers have different numbers.
        std::vector<std::uint16_t> experts(wanted.experts);
        std::iota(experts.begin(), experts.end(), std::uint16_t{0});
        for (auto place = experts.size(); place > 1; --place)
            std::swap(experts[place - 1], experts[random_.below(place)]);
        for (std::size_t place = 0; place < experts.size(); ++place)
            members_[place % groups_].push_back(experts[place]);
        repeats_ = repeated_share();
    }

    void begin_sequence() { recent_.assign(groups_, {}); }

    /// Writes top_k distinct experts for what the source chose.
    void choose(std::span<const std::uint16_t> chosen, std::span<std::uint16_t> ids) {
        std::vector<std::vector<std::uint16_t>> used(groups_);
        std::size_t count = 0;
        for (std::size_t turn = 0; count < ids.size(); ++turn) {
            // Beyond the members of all chosen groups: any other one.
            const auto group = turn < chosen.size() * members_.front().size() ? chosen[turn % chosen.size()] % groups_
                                                                              : random_.below(groups_);
            if (const auto expert = pick(group, used[group].size())) {
                taken_[*expert] = true;
                used[group].push_back(*expert);
                ids[count++] = *expert;
            }
        }
        for (std::size_t group = 0; group < groups_; ++group)
            if (!used[group].empty())
                recent_[group] = std::move(used[group]);
        for (const auto id : ids)
            taken_[id] = false;
    }

private:
    /// The next expert of a group, which has given `before` to this token already.
    std::optional<std::uint16_t> pick(std::size_t group, std::size_t before) {
        const auto& members = members_[group];
        if (before >= members.size())
            return std::nullopt;
        const auto& recent = recent_[group];
        if (before < recent.size() && !taken_[recent[before]] && random_.uniform() < repeats_)
            return recent[before];
        // The j-th member weighs 1 / (j + 1): popularity falls about so in published models.
        double sum = 0;
        for (std::size_t j = 0; j < members.size(); ++j)
            sum += taken_[members[j]] ? 0.0 : 1.0 / static_cast<double>(j + 1);
        double left = random_.uniform() * sum;
        std::optional<std::uint16_t> last;
        for (std::size_t j = 0; j < members.size(); ++j) {
            if (taken_[members[j]])
                continue;
            last = members[j];
            left -= 1.0 / static_cast<double>(j + 1);
            if (left < 0)
                break;
        }
        return last;
    }

    double repeated_share() const {
        std::uint64_t repeated = 0, choices = 0;
        for (const auto& sequence : source_.sequences)
            for (std::uint32_t token = 1; token < sequence.tokens; ++token) {
                const auto now = source_.ids(sequence, token, source_layer_);
                const auto before = source_.ids(sequence, token - 1, source_layer_);
                choices += now.size();
                for (const auto id : now)
                    repeated += std::find(before.begin(), before.end(), id) != before.end() ? 1U : 0U;
            }
        return choices == 0 ? 0.0 : static_cast<double>(repeated) / static_cast<double>(choices);
    }

    const route_trace& source_;
    std::uint32_t source_layer_;
    route_synthesis wanted_;
    split_mix random_;
    std::size_t groups_;
    std::vector<std::vector<std::uint16_t>> members_; ///< [groups]: the most popular first
    std::vector<std::vector<std::uint16_t>> recent_;  ///< [groups]: what the sequence chose there last
    std::vector<bool> taken_;                         ///< [experts]: by this token
    double repeats_ = 0;
};

/// The source's weights by rank, as far as it has ranks, to a sum of 1.
void copy_weights(std::span<const float> from, std::span<float> to) {
    float sum = 0;
    for (std::size_t rank = 0; rank < to.size(); ++rank) {
        // Ranks are spread over the source's ranks: two of them share what one had.
        to[rank] = std::max(from[rank * from.size() / to.size()], 0.0F);
        sum += to[rank];
    }
    for (auto& weight : to)
        weight = sum > 0 ? weight / sum : 1.0F / static_cast<float>(to.size());
}

} // namespace

result<route_trace> make_uniform_routes(const route_synthesis& wanted) {
    auto made = make_empty(wanted);
    if (!made)
        return made;
    split_mix random(split_mix::mix(wanted.seed));
    std::vector<std::uint16_t> experts(wanted.experts);
    std::iota(experts.begin(), experts.end(), std::uint16_t{0});
    for (auto& sequence : made->sequences)
        for (std::size_t first = 0; first < sequence.ids.size(); first += wanted.top_k)
            for (std::uint32_t rank = 0; rank < wanted.top_k; ++rank) {
                std::swap(experts[rank], experts[rank + random.below(wanted.experts - rank)]);
                sequence.ids[first + rank] = experts[rank];
            }
    return made;
}

result<route_trace> make_routes_like(const route_trace& source, const route_synthesis& wanted) {
    auto made = make_empty(wanted);
    if (!made)
        return made;
    // The wanted sequences follow the source's, cut where those are longer and joined where they are shorter.
    std::vector<std::pair<const route_sequence*, std::uint32_t>> places;
    for (const auto& sequence : source.sequences)
        for (std::uint32_t token = 0; token < sequence.tokens && places.size() < wanted.tokens; ++token)
            places.emplace_back(&sequence, token);
    if (places.size() < wanted.tokens)
        return fail(errc::invalid_argument, "the source has " + std::to_string(places.size()) + " tokens, fewer than " +
                                                std::to_string(wanted.tokens));
    for (std::uint32_t layer = 0; layer < wanted.layers; ++layer) {
        const auto source_layer = static_cast<std::uint32_t>(std::uint64_t{layer} * source.layers / wanted.layers);
        layer_likeness likeness(source, source_layer, wanted, layer);
        std::size_t place = 0;
        for (auto& sequence : made->sequences) {
            likeness.begin_sequence();
            for (std::uint32_t token = 0; token < sequence.tokens; ++token, ++place) {
                const auto [from, at] = places[place];
                const auto first = (std::size_t{token} * wanted.layers + layer) * wanted.top_k;
                likeness.choose(source.ids(*from, at, source_layer),
                                std::span(sequence.ids).subspan(first, wanted.top_k));
                const auto source_first = (std::size_t{at} * source.layers + source_layer) * source.top_k;
                copy_weights(std::span(from->weights).subspan(source_first, source.top_k),
                             std::span(sequence.weights).subspan(first, wanted.top_k));
            }
        }
    }
    return made;
}

} // namespace moira
