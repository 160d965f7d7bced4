#pragma once

#include "core/base/ids.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moira {

/// Drafts by repetition (prompt lookup): where the last tokens of a text stood before, what followed them then may
/// follow again. Remembers for every short run of tokens where it stood last; what the table says is compared with the
/// text, so a draft always is a true continuation. The text stays with the caller. Memory is bounded by slots_max; a
/// longer text forgets its far past. Plain state, no clock; not thread-safe.
class ngram_index {
public:
    static constexpr std::size_t ngram_min = 2; ///< single tokens repeat by chance
    static constexpr std::size_t ngram_max = 4; ///< longer runs find hardly anything that four tokens do not
    /// 256 KiB of positions per sequence: the last 20 thousand tokens of a text, with three runs each.
    static constexpr std::size_t slots_max = std::size_t{1} << 16;

    /// Takes the new tokens of a text that only grows; a shorter one starts anew. Amortised O(new tokens).
    void extend(std::span<const token_id> tokens);

    /// At most `count` tokens that may follow; empty when nothing repeats. `tokens` is what extend() got last. A
    /// repetition that reaches the text's end goes on repeating.
    std::vector<token_id> propose(std::span<const token_id> tokens, std::size_t count) const;

    std::size_t slots() const noexcept { return slots_.size(); }

private:
    void resize(std::span<const token_id> tokens);
    void remember(std::span<const token_id> tokens, std::size_t next);
    std::size_t slot_of(std::span<const token_id> run) const noexcept;

    std::vector<std::int32_t> slots_; ///< place of the token that followed a run, 0: none; a power of two of them
    std::size_t known_ = 0;           ///< tokens whose runs before them are remembered
};

} // namespace moira
