#include "core/route/heads_training.hpp"

#include "core/route/context_scorer.hpp"
#include "core/route/symmetric_eigen.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace moira {
namespace {

/// Step of AdaGrad; half as much loses 0.4 points of recall on moira-demo.
constexpr float learning_rate = 0.1F;
constexpr float gradient_floor = 1e-4F;

/// Tokens that tell how a head's outputs vary, and on which ranks are compared: more change nothing that counts.
constexpr std::size_t sample_tokens_max = 4'096;

/// Below this there is nothing to learn, and nothing to compare ranks on.
constexpr std::uint64_t tokens_least = 64;

struct position {
    std::uint32_t sequence = 0, token = 0;
};

float widen(std::uint16_t bf16) noexcept {
    return std::bit_cast<float>(std::uint32_t{bf16} << 16);
}

/// A full map under training; a column of the state is a row here, so that every loop runs along the experts.
struct dense_head {
    std::vector<float> weights; ///< [hidden, experts]
    std::vector<float> bias;    ///< [experts]
};

/// One layer's states and a later layer's choices.
class head_trainer {
public:
    head_trainer(const route_trace& trace, std::uint32_t from, std::uint32_t to)
        : trace_(trace), from_(from), to_(to), state_(trace.hidden), scores_(trace.experts) {}

    void train(std::vector<position> tokens, const heads_training_options& options);

    /// Directions in which the outputs vary, the widest first, and their mean, on some of `tokens`.
    void find_directions(const std::vector<position>& tokens);

    /// The share of the chosen experts among the first top_k, with so many directions kept. After find_directions().
    std::vector<double> recall_at_ranks(const std::vector<position>& tokens, const std::vector<std::int32_t>& ranks);

    linear_head reduced(std::int32_t rank) const;

private:
    std::size_t experts() const noexcept { return trace_.experts; }
    void load(position at);
    void score();

    const route_trace& trace_;
    std::uint32_t from_, to_;
    dense_head head_;
    std::vector<float> state_, scores_;
    std::vector<double> directions_; ///< [experts, experts]
    std::vector<double> mean_;       ///< [experts]
};

void head_trainer::load(position at) {
    const auto& hidden = trace_.sequences[at.sequence].hidden;
    const auto begin = (std::size_t{at.token} * trace_.layers + from_) * trace_.hidden;
    for (std::size_t column = 0; column < state_.size(); ++column)
        state_[column] = widen(hidden[begin + column]);
}

void head_trainer::score() {
    std::copy(head_.bias.begin(), head_.bias.end(), scores_.begin());
    for (std::size_t column = 0; column < state_.size(); ++column) {
        const float value = state_[column];
        const float* row = head_.weights.data() + column * experts();
        for (std::size_t expert = 0; expert < experts(); ++expert)
            scores_[expert] += value * row[expert];
    }
}

void head_trainer::train(std::vector<position> tokens, const heads_training_options& options) {
    const double share = static_cast<double>(trace_.top_k) / trace_.experts;
    head_.weights.assign(state_.size() * experts(), 0.0F);
    head_.bias.assign(experts(), static_cast<float>(std::log(share / std::max(1 - share, 1e-3))));
    std::vector<float> squares(head_.weights.size(), gradient_floor), bias_squares(experts(), gradient_floor);
    std::mt19937_64 random(options.seed);
    for (std::int32_t epoch = 0; epoch < options.epochs; ++epoch) {
        for (std::size_t i = tokens.size(); i > 1; --i)
            std::swap(tokens[i - 1], tokens[random() % i]);
        for (const auto at : tokens) {
            load(at);
            score();
            auto& errors = scores_;
            for (float& each : errors)
                each = -1.0F / (1.0F + std::exp(-each));
            for (const auto expert : trace_.ids(trace_.sequences[at.sequence], at.token, to_))
                errors[expert] += 1.0F;
            for (std::size_t column = 0; column < state_.size(); ++column) {
                const float value = state_[column];
                float* weights = head_.weights.data() + column * experts();
                float* sums = squares.data() + column * experts();
                for (std::size_t expert = 0; expert < experts(); ++expert) {
                    const float slope = value * errors[expert];
                    sums[expert] += slope * slope;
                    weights[expert] += learning_rate * slope / std::sqrt(sums[expert]);
                }
            }
            for (std::size_t expert = 0; expert < experts(); ++expert) {
                bias_squares[expert] += errors[expert] * errors[expert];
                head_.bias[expert] += learning_rate * errors[expert] / std::sqrt(bias_squares[expert]);
            }
        }
    }
}

void head_trainer::find_directions(const std::vector<position>& tokens) {
    const auto count = std::min(tokens.size(), sample_tokens_max);
    const auto stride = tokens.size() / count;
    mean_.assign(experts(), 0.0);
    std::vector<double> products(experts() * experts(), 0.0);
    for (std::size_t i = 0; i < count; ++i) {
        load(tokens[i * stride]);
        score();
        for (std::size_t a = 0; a < experts(); ++a) {
            mean_[a] += static_cast<double>(scores_[a]);
            for (std::size_t b = 0; b < experts(); ++b)
                products[a * experts() + b] += static_cast<double>(scores_[a] * scores_[b]);
        }
    }
    const auto n = static_cast<double>(count);
    for (double& each : mean_)
        each /= n;
    for (std::size_t a = 0; a < experts(); ++a)
        for (std::size_t b = 0; b < experts(); ++b)
            products[a * experts() + b] = products[a * experts() + b] / n - mean_[a] * mean_[b];
    directions_ = symmetric_eigenvectors(std::move(products), experts());
}

std::vector<double> head_trainer::recall_at_ranks(const std::vector<position>& tokens,
                                                  const std::vector<std::int32_t>& ranks) {
    const auto count = std::min(tokens.size(), sample_tokens_max);
    const auto stride = tokens.size() / count;
    std::vector<double> found(ranks.size(), 0.0);
    std::vector<float> kept(experts());
    std::vector<std::uint16_t> best(trace_.top_k);
    for (std::size_t i = 0; i < count; ++i) {
        const auto at = tokens[i * stride];
        load(at);
        score();
        const auto chosen = trace_.ids(trace_.sequences[at.sequence], at.token, to_);
        std::transform(mean_.begin(), mean_.end(), kept.begin(), [](double mean) { return static_cast<float>(mean); });
        std::size_t direction = 0;
        for (std::size_t r = 0; r < ranks.size(); ++r) {
            for (; direction < static_cast<std::size_t>(ranks[r]); ++direction) {
                const double* axis = directions_.data() + direction * experts();
                double along = 0;
                for (std::size_t expert = 0; expert < experts(); ++expert)
                    along += axis[expert] * (static_cast<double>(scores_[expert]) - mean_[expert]);
                for (std::size_t expert = 0; expert < experts(); ++expert)
                    kept[expert] += static_cast<float>(along * axis[expert]);
            }
            best_experts(kept, best);
            for (const auto expert : chosen)
                found[r] += std::count(best.begin(), best.end(), expert);
        }
    }
    for (double& each : found)
        each /= static_cast<double>(count * trace_.top_k);
    return found;
}

/// scores = mean + U U' (W x + b - mean), U the first `rank` directions.
linear_head head_trainer::reduced(std::int32_t rank) const {
    const auto inner = static_cast<std::size_t>(rank), columns = state_.size();
    linear_head made{std::vector<float>(experts() * inner), std::vector<float>(inner * columns),
                     std::vector<float>(experts())};
    std::vector<double> bias(mean_);
    for (std::size_t r = 0; r < inner; ++r) {
        const double* axis = directions_.data() + r * experts();
        double offset = 0;
        for (std::size_t expert = 0; expert < experts(); ++expert) {
            made.up[expert * inner + r] = static_cast<float>(axis[expert]);
            offset += axis[expert] * (static_cast<double>(head_.bias[expert]) - mean_[expert]);
        }
        for (std::size_t column = 0; column < columns; ++column) {
            double sum = 0;
            for (std::size_t expert = 0; expert < experts(); ++expert)
                sum += axis[expert] * static_cast<double>(head_.weights[column * experts() + expert]);
            made.down[r * columns + column] = static_cast<float>(sum);
        }
        for (std::size_t expert = 0; expert < experts(); ++expert)
            bias[expert] += axis[expert] * offset;
    }
    std::transform(bias.begin(), bias.end(), made.bias.begin(), [](double each) { return static_cast<float>(each); });
    return made;
}

result<void> check_trace(const route_trace& trace) {
    if (trace.hidden == 0)
        return fail(errc::invalid_argument, "the recording holds no states: record it with --hidden");
    if (trace.layers < 2)
        return fail(errc::invalid_argument, "one layer routes: there is no later one to predict");
    if (trace.experts > heads_experts_max)
        return fail(errc::invalid_argument, "found " + std::to_string(trace.experts) + " experts, heads are made for " +
                                                std::to_string(heads_experts_max) + " at most");
    if (trace.tokens() < tokens_least)
        return fail(errc::invalid_argument, "found " + std::to_string(trace.tokens()) + " tokens, at least " +
                                                std::to_string(tokens_least) + " are needed: record more text");
    return {};
}

/// All but the last tenth, and that.
std::pair<std::vector<position>, std::vector<position>> split_tokens(const route_trace& trace) {
    const auto all = trace.tokens();
    std::pair<std::vector<position>, std::vector<position>> parts;
    for (std::uint32_t sequence = 0; sequence < trace.sequences.size(); ++sequence)
        for (std::uint32_t token = 0; token < trace.sequences[sequence].tokens; ++token) {
            auto& part = parts.first.size() < all - all / 10 ? parts.first : parts.second;
            part.push_back({sequence, token});
        }
    return parts;
}

/// A handful: each is half of the next.
std::vector<std::int32_t> ranks_to_try(const route_trace& trace) {
    const auto most = static_cast<std::int32_t>(std::min(trace.experts, trace.hidden));
    std::vector<std::int32_t> ranks;
    for (const auto rank : {most / 8, most / 4, most / 2, most})
        if (rank >= 1 && (ranks.empty() || rank > ranks.back()))
            ranks.push_back(rank);
    return ranks;
}

} // namespace

result<linear_heads> train_heads(const route_trace& trace, const heads_training_options& options) {
    if (auto fine = check_trace(trace); !fine)
        return tl::unexpected(fine.error());
    const auto [training, held_out] = split_tokens(trace);
    const auto ranks = ranks_to_try(trace);
    std::vector<head_trainer> trainers;
    std::vector<std::size_t> places;
    for (std::uint32_t ahead = 1; ahead <= static_cast<std::uint32_t>(heads_ahead_max); ++ahead)
        for (std::uint32_t from = 0; from + ahead < trace.layers; ++from) {
            trainers.emplace_back(trace, from, from + ahead);
            places.push_back(std::size_t{ahead - 1} * trace.layers + from);
        }
    std::vector<std::vector<double>> recalls(trainers.size());
    const auto train_one = [&](std::size_t index) {
        trainers[index].train(training, options);
        trainers[index].find_directions(training);
        recalls[index] = trainers[index].recall_at_ranks(held_out, ranks);
    };
    if (options.for_each)
        options.for_each(trainers.size(), train_one);
    else
        for (std::size_t index = 0; index < trainers.size(); ++index)
            train_one(index);

    std::vector<double> sums(ranks.size(), 0.0);
    for (const auto& of_head : recalls)
        for (std::size_t r = 0; r < ranks.size(); ++r)
            sums[r] += of_head[r] / static_cast<double>(trainers.size());
    const double best = *std::max_element(sums.begin(), sums.end());
    const auto first =
        std::find_if(sums.begin(), sums.end(), [&](double recall) { return recall >= best - options.rank_loss_max; });
    linear_heads made{static_cast<std::int32_t>(trace.layers),
                      static_cast<std::int32_t>(trace.experts),
                      static_cast<std::int32_t>(trace.hidden),
                      ranks[static_cast<std::size_t>(first - sums.begin())],
                      {}};
    made.heads.resize(std::size_t{heads_ahead_max} * trace.layers);
    for (std::size_t index = 0; index < trainers.size(); ++index)
        made.heads[places[index]] = trainers[index].reduced(made.rank);
    return made;
}

} // namespace moira
