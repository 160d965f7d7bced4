#include "core/speculate/ngram_index.hpp"

#include <algorithm>
#include <limits>

namespace moira {

namespace {

constexpr std::size_t slots_min = 256;
constexpr std::size_t runs_per_token = ngram_index::ngram_max - ngram_index::ngram_min + 1;

} // namespace

/// FNV-1a over the tokens; runs of different lengths share the table.
std::size_t ngram_index::slot_of(std::span<const token_id> run) const noexcept {
    std::uint64_t hash = 0xcbf29ce484222325ULL + run.size();
    for (const token_id token : run)
        hash = (hash ^ static_cast<std::uint32_t>(token)) * 0x100000001b3ULL;
    return static_cast<std::size_t>(hash ^ (hash >> 32)) & (slots_.size() - 1);
}

void ngram_index::remember(std::span<const token_id> tokens, std::size_t next) {
    for (std::size_t length = ngram_min; length <= std::min(ngram_max, next); ++length)
        slots_[slot_of(tokens.subspan(next - length, length))] = static_cast<std::int32_t>(next);
}

/// Twice the room that the text needs, so that a text that grows is indexed anew rarely.
void ngram_index::resize(std::span<const token_id> tokens) {
    std::size_t wanted = std::max(slots_min, slots_.size());
    while (wanted < slots_max && wanted < tokens.size() * runs_per_token)
        wanted *= 2;
    if (wanted == slots_.size())
        return;
    slots_.assign(std::min(2 * wanted, slots_max), 0);
    known_ = 0;
}

void ngram_index::extend(std::span<const token_id> tokens) {
    // Places are kept in 32 bits; no context is that long.
    tokens = tokens.first(std::min<std::size_t>(tokens.size(), std::numeric_limits<std::int32_t>::max()));
    if (tokens.size() < known_) {
        slots_.clear();
        known_ = 0;
    }
    resize(tokens);
    // What lies further back than the table reaches would be overwritten anyway.
    known_ = std::max(known_, tokens.size() - std::min(tokens.size(), slots_max));
    for (; known_ < tokens.size(); ++known_)
        remember(tokens, known_);
}

std::vector<token_id> ngram_index::propose(std::span<const token_id> tokens, std::size_t count) const {
    std::vector<token_id> draft;
    if (slots_.empty() || count == 0)
        return draft;
    for (std::size_t length = ngram_max; length >= ngram_min; --length) {
        if (tokens.size() <= length)
            continue;
        const auto suffix = tokens.last(length);
        const auto next = static_cast<std::size_t>(slots_[slot_of(suffix)]);
        if (next < length || next >= tokens.size() ||
            !std::equal(suffix.begin(), suffix.end(), tokens.begin() + static_cast<std::ptrdiff_t>(next - length)))
            continue;
        for (std::size_t from = next; draft.size() < count; ++from)
            draft.push_back(from < tokens.size() ? tokens[from] : draft[from - tokens.size()]);
        return draft;
    }
    return draft;
}

} // namespace moira
