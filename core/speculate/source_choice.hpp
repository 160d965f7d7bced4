#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace moira {

/// Where drafts come from. `model`: the stream offers them with a step's result (multi-token prediction).
enum class draft_source { none, ngram, model };

/// Decides by measurement whether something is worth doing: tries it on a few opportunities, goes on where it paid, and
/// where it did not, tries again after a pause that doubles up to a bound. Any unit of cost; knows no clock.
class draft_trial {
public:
    struct bounds {
        double tokens_trial = 64;          ///< measured before a decision
        std::uint32_t trial_share = 1;     ///< one in so many opportunities is used while trying
        std::uint32_t pause_min = 128;     ///< opportunities left alone after a trial that did not pay
        std::uint32_t pause_max = 4096;    ///< where doubling ends: bounds what trying costs
        std::uint32_t control_share = 64;  ///< while it pays one in so many is left alone: costs without stay known
    };

    /// What drafting must save to be adopted: less could be noise.
    static constexpr double gain_min = 1.02;

    explicit draft_trial(const bounds& limits) : limits_(limits), pause_(limits.pause_min) {}

    /// An opportunity: is it to be used?
    bool use() noexcept;

    /// Trying, or it pays. False while it pauses.
    bool open() const noexcept { return state_ != state::pausing; }
    bool pays() const noexcept { return state_ == state::adopted; }

    /// Tokens that were emitted with it, what they cost, and what they would have cost without.
    void note(double tokens, double cost, double cost_without) noexcept;

private:
    enum class state : std::uint8_t { trying, adopted, pausing };

    bounds limits_;
    state state_ = state::trying;
    std::uint32_t pause_, opportunities_ = 0;
    double tokens_ = 0, cost_ = 0, cost_without_ = 0; ///< of the trial that runs
};

/// What a token costs without drafts, by the number of sequences that decode together (in powers of two): the measure
/// of every trial. Old steps fade.
class plain_cost {
public:
    void note(std::int32_t sequences, double tokens, double cost) noexcept;

    /// 0: not measured yet.
    double per_token(std::int32_t sequences) const noexcept { return per_token_[bucket(sequences)]; }

private:
    static constexpr std::size_t buckets = 16; ///< up to 32768 sequences together
    static std::size_t bucket(std::int32_t sequences) noexcept;

    std::array<double, buckets> per_token_{};
};

/// speculation.mode=auto: which source a sequence drafts with. Repetition costs nothing while it proposes nothing, so
/// every sequence may draft with it, as long as steps with such drafts pay. The model's own layer costs at every
/// step from the prompt on, so it is tried by few new sequences, which give it up as soon as it does not pay. Decides
/// nothing but speed. Plain state, no clock.
class source_choice {
public:
    /// Plain tokens that are emitted before the layer is tried for the first time: a trial of 96 tokens at twice their
    /// cost then stays below 2.5 per cent of all, and a program that runs one request never tries.
    static constexpr double tokens_before_trial_default = 4096;

    explicit source_choice(bool model, double tokens_before_trial = tokens_before_trial_default)
        : has_model_(model), tokens_before_trial_(tokens_before_trial) {}

    draft_source at_start() noexcept {
        return has_model_ && plain_tokens_ >= tokens_before_trial_ && model_.use() ? draft_source::model : draft_source::ngram;
    }

    /// Sequences that draft with the model's layer go on with it.
    bool model_open() const noexcept { return model_.open(); }

    /// A step could hold drafts by repetition: shall it?
    bool ngram_now() noexcept { return ngram_.use(); }

    /// A step of decoding rows only. `ngram`: it held drafts by repetition; `model`: sequences that draft with the
    /// model's layer.
    void note_step(std::int32_t sequences, double tokens, double cost, bool ngram, bool model) noexcept;

private:
    // A trial by the model's layer costs at most half a step per token: 96 tokens in 256 sequences vanish.
    static constexpr draft_trial::bounds model_bounds{96, 4, 8, 256, 16};

    bool has_model_;
    double tokens_before_trial_;
    double plain_tokens_ = 0; ///< emitted by steps without drafts
    draft_trial ngram_{draft_trial::bounds{}}, model_{model_bounds};
    plain_cost plain_;
};

} // namespace moira
