#include "core/text/byte_pair_encoder.hpp"

#include <algorithm>
#include <bit>

namespace moira {
namespace {

constexpr std::uint32_t end_of_list = UINT32_MAX;

std::uint64_t pair_of(token_id left, token_id right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
}

/// Spreads pairs over the table (the finalizer of splitmix64, a bijection of 64 bits).
std::uint64_t spread(std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
}

/// Order of a heap whose top is the lowest rank, then the leftmost position.
bool comes_later(const byte_pair_encoder::candidate& a, const byte_pair_encoder::candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

} // namespace

void byte_pair_encoder::set_merges(const std::vector<merge>& merges) {
    slots_.assign(std::bit_ceil(std::max<std::size_t>(merges.size() * 2, 2)), slot{});
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
        const std::uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
        std::size_t at = spread(pair) & mask;
        while (slots_[at].pair != UINT64_MAX && slots_[at].pair != pair)
            at = (at + 1) & mask;
        slots_[at] = {pair, static_cast<std::uint32_t>(rank), merges[rank].merged};
    }
}

const byte_pair_encoder::slot* byte_pair_encoder::find(token_id left, token_id right) const {
    if (slots_.empty())
        return nullptr;
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t pair = pair_of(left, right);
    for (std::size_t at = spread(pair) & mask;; at = (at + 1) & mask) {
        if (slots_[at].pair == pair)
            return &slots_[at];
        if (slots_[at].pair == UINT64_MAX)
            return nullptr;
    }
}

void byte_pair_encoder::fill_symbols(std::string_view piece, std::vector<symbol>& symbols) const {
    symbols.clear();
    bool previous_unknown = false;
    for (const char byte : piece) {
        token_id id = byte_tokens_[static_cast<unsigned char>(byte)];
        const bool unknown = id == none;
        if (unknown)
            id = unknown_;
        const bool fused = unknown && previous_unknown && fuse_unknown_;
        previous_unknown = unknown;
        if (id == none || fused)
            continue;
        const auto at = static_cast<std::uint32_t>(symbols.size());
        symbols.push_back({id, at - 1, at + 1}); // the first one's `previous` wraps to end_of_list
    }
    if (!symbols.empty())
        symbols.back().next = end_of_list;
}

void byte_pair_encoder::merge_all(scratch& memory) const {
    auto& symbols = memory.symbols;
    auto& heap = memory.heap;
    heap.clear();
    const auto candidate_at = [&](std::uint32_t at, auto&& take) {
        const std::uint32_t next = symbols[at].next;
        if (next == end_of_list)
            return;
        if (const slot* found = find(symbols[at].id, symbols[next].id))
            take(candidate{found->rank, at, symbols[at].id, symbols[next].id});
    };
    const auto push = [&](const candidate& c) {
        heap.push_back(c);
        std::push_heap(heap.begin(), heap.end(), comes_later);
    };
    for (std::uint32_t at = 0; at < symbols.size(); ++at)
        candidate_at(at, [&](const candidate& c) { heap.push_back(c); });
    std::make_heap(heap.begin(), heap.end(), comes_later);
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), comes_later);
        const candidate best = heap.back();
        heap.pop_back();
        symbol& left = symbols[best.position];
        // An earlier merge may have consumed either side: then this candidate is void.
        if (left.id != best.left || left.next == end_of_list || symbols[left.next].id != best.right)
            continue;
        symbol& right = symbols[left.next];
        left.id = find(best.left, best.right)->merged;
        left.next = right.next;
        right.id = none;
        if (left.next != end_of_list)
            symbols[left.next].previous = best.position;
        if (left.previous != end_of_list)
            candidate_at(left.previous, push);
        candidate_at(best.position, push);
    }
}

void byte_pair_encoder::encode(std::string_view piece, scratch& memory, std::vector<token_id>& ids) const {
    fill_symbols(piece, memory.symbols);
    if (memory.symbols.empty())
        return;
    merge_all(memory);
    for (std::uint32_t at = 0; at != end_of_list; at = memory.symbols[at].next)
        ids.push_back(memory.symbols[at].id);
}

} // namespace moira
