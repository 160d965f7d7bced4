#pragma once

#include "core/base/ids.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace moira {

/// Byte pair encoding over byte tokens: of all neighbours the pair with the lowest rank merges first, of equal ranks
/// the leftmost. Immutable after filling; threads bring their own scratch.
class byte_pair_encoder {
public:
    struct merge {
        token_id left = 0;
        token_id right = 0;
        token_id merged = 0;
    };

    struct symbol {
        token_id id = 0;
        std::uint32_t previous = 0;
        std::uint32_t next = 0;
    };

    struct candidate {
        std::uint32_t rank = 0;
        std::uint32_t position = 0;
        token_id left = 0;
        token_id right = 0;
    };

    /// Memory that one thread reuses from piece to piece.
    struct scratch {
        std::vector<symbol> symbols;
        std::vector<candidate> heap;
    };

    byte_pair_encoder() { byte_tokens_.fill(none); }

    static constexpr token_id none = -1;

    /// Token of a single byte; `none` leaves the byte out of the result (as the reference does without unk_token).
    void set_byte_token(unsigned char byte, token_id id) { byte_tokens_[byte] = id; }

    /// What stands for bytes without a token; `fuse` makes one of a run of them.
    void set_unknown(token_id id, bool fuse) {
        unknown_ = id;
        fuse_unknown_ = fuse;
    }

    /// All merges; the position is the rank. Of a pair that occurs twice the later rank counts.
    void set_merges(const std::vector<merge>& merges);

    /// Appends the tokens of one piece. Near linear: O(n log n) in bytes. Precondition: fewer than 2^32 bytes.
    void encode(std::string_view piece, scratch& memory, std::vector<token_id>& ids) const;

private:
    struct slot {
        std::uint64_t pair = UINT64_MAX; // no pair of ids below 2^24 has this value
        std::uint32_t rank = 0;
        token_id merged = 0;
    };

    const slot* find(token_id left, token_id right) const;
    void fill_symbols(std::string_view piece, std::vector<symbol>& symbols) const;
    void merge_all(scratch& memory) const;

    std::array<token_id, 256> byte_tokens_{};
    token_id unknown_ = none;
    bool fuse_unknown_ = false;
    std::vector<slot> slots_; // open addressing; the size is a power of two and at least twice the merges
};

} // namespace moira
