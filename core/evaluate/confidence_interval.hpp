#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace moira {

struct confidence_interval {
    double low = 0, high = 0;
};

/// The 95 % interval of a share of `correct` in `items` after Wilson, which unlike the normal approximation stays
/// inside 0..1 and does not shrink to nothing at 0 or 1. Without items: 0..1.
confidence_interval wilson_interval(std::uint64_t correct, std::uint64_t items);

/// Sums of several quantities over consecutive tokens, in at most `blocks_max` blocks: memory is bounded whatever the
/// length of the text. Blocks of equal size double when there are too many. Neighbouring tokens are alike (a hard
/// sentence is hard for many tokens), so that a bootstrap must draw stretches of text and not tokens.
class token_blocks {
public:
    static constexpr std::size_t quantities = 4;
    using values = std::array<double, quantities>;

    /// 128 to 256 blocks of a long text: enough for the percentiles of a bootstrap, and blocks of 256 tokens from
    /// 32,768 tokens on. Texts of fewer tokens than blocks are drawn by single tokens.
    static constexpr std::size_t blocks_max = 256;

    void add(const values& token);

    std::uint64_t tokens() const noexcept { return tokens_; }
    double sum(std::size_t quantity) const noexcept;
    double mean(std::size_t quantity) const noexcept; ///< per token; 0 without any

    /// The 95 % percentile interval of the mean of `quantity`, from 2,000 resamplings of the blocks with a fixed seed.
    /// The same blocks are drawn for every quantity. Of fewer than two blocks: the mean itself, twice.
    confidence_interval bootstrap(std::size_t quantity) const;

private:
    struct block {
        std::uint64_t tokens = 0;
        values sums{};
    };

    std::vector<block> blocks_;
    std::uint64_t block_tokens_ = 1;
    std::uint64_t tokens_ = 0;
};

} // namespace moira
