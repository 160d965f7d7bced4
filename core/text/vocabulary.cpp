#include "core/text/vocabulary.hpp"

#include <algorithm>

namespace moira {

result<vocabulary> vocabulary::build(std::vector<entry> entries) {
    std::sort(entries.begin(), entries.end(), [](const entry& a, const entry& b) { return a.id < b.id; });
    vocabulary built;
    built.entries_ = std::move(entries);
    built.by_text_.reserve(built.entries_.size());
    const entry* previous = nullptr;
    for (const entry& token : built.entries_) {
        if (token.id < 0 || token.id > id_max)
            return fail(errc::corrupt_file,
                        "token id " + std::to_string(token.id) + " is outside 0 .. " + std::to_string(id_max));
        if (previous != nullptr && previous->id == token.id)
            return fail(errc::corrupt_file, "token id " + std::to_string(token.id) + " is given to '" + previous->text +
                                                "' and to '" + token.text + "'");
        if (!built.by_text_.emplace(token.text, token.id).second)
            return fail(errc::corrupt_file, "token '" + token.text + "' has two ids");
        previous = &token;
    }
    return built;
}

const vocabulary::entry* vocabulary::find(token_id id) const noexcept {
    if (id < 0)
        return nullptr;
    // Without gaps the position is the id.
    const auto position = static_cast<std::size_t>(id);
    if (position < entries_.size() && entries_[position].id == id)
        return &entries_[position];
    const auto found = std::lower_bound(entries_.begin(), entries_.end(), id,
                                        [](const entry& token, token_id wanted) { return token.id < wanted; });
    return found != entries_.end() && found->id == id ? &*found : nullptr;
}

std::optional<token_id> vocabulary::id_of(std::string_view text) const {
    const auto found = by_text_.find(text);
    if (found == by_text_.end())
        return std::nullopt;
    return found->second;
}

std::size_t vocabulary::size() const noexcept {
    return entries_.empty() ? 0 : static_cast<std::size_t>(entries_.back().id) + 1;
}

} // namespace moira
