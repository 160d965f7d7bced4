#pragma once

#include "core/base/ids.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace moira {

/// Page accounting of the KV cache with prefix reuse. Knows ids, not bytes (those belong to the device context). Full
/// pages are remembered by the exact tokens that they and all pages before them hold (a trie, no hashing of content
/// decides), shared by reference count, and kept after their last user until somebody needs the room (least recently
/// used first). Reuse is exact because rows are: a reused page holds the bits that recomputing would give.
/// One owner (the batcher); not thread-safe.
class kv_pages {
public:
    struct options {
        std::int32_t pages = 0;
        std::int32_t page_tokens = 16;
        bool reuse_prefixes = true;
    };
    explicit kv_pages(const options& wanted);
    ~kv_pages();
    kv_pages(kv_pages&&) noexcept;
    kv_pages& operator=(kv_pages&&) noexcept;

    std::int32_t page_tokens() const noexcept;
    std::int32_t pages_total() const noexcept;
    std::int32_t pages_free() const noexcept;      ///< could be taken now, remembered ones included
    std::int32_t pages_remembered() const noexcept;  ///< hold a reusable prefix that nobody uses now

    /// Pages of a sequence, in order. Returned to the pool by release().
    struct sequence_pages {
        std::vector<page_id> pages;
        std::int32_t registered = 0;  ///< leading pages that the trie knows
        std::int64_t node = 0;        ///< trie node of the last registered page; 0: root
    };

    /// Starts a sequence: takes references on the longest remembered prefix of `tokens`, at most tokens.size() - 1
    /// tokens (one must be computed to have logits). The tokens covered are pages.size() * page_tokens().
    sequence_pages start(std::span<const token_id> tokens);

    /// Makes room for `tokens` tokens in all. False, with nothing changed, when pages are lacking.
    bool grow(sequence_pages& sequence, std::int64_t tokens);

    /// Makes room for up to `tokens` tokens in all with pages that hold nothing: forgets no prefix. Returns the tokens for
    /// which there is room.
    std::int64_t grow_unused(sequence_pages& sequence, std::int64_t tokens);

    /// Gives back the pages that the first `tokens` tokens do not need.
    void shrink(sequence_pages& sequence, std::int64_t tokens);

    /// The first `tokens.size()` tokens of the sequence are computed: registers pages that became full.
    void computed(sequence_pages& sequence, std::span<const token_id> tokens);

    void release(sequence_pages& sequence);

    /// Drops every remembered prefix that nobody uses.
    void forget();

private:
    struct impl;
    std::unique_ptr<impl> impl_;
};

}  // namespace moira
