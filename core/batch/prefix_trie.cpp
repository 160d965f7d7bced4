#include "core/batch/prefix_trie.hpp"

namespace moira {

prefix_trie::prefix_trie() {
    nodes_.emplace_back();
}

std::optional<std::int64_t> prefix_trie::find(std::int64_t parent, std::span<const token_id> tokens) const {
    const child_map& children = at(parent).children;
    const auto found = children.find(tokens);
    if (found == children.end())
        return std::nullopt;
    return found->second;
}

std::int64_t prefix_trie::add(std::int64_t parent, std::span<const token_id> tokens, page_id page) {
    std::int64_t index = static_cast<std::int64_t>(nodes_.size());
    if (free_nodes_.empty()) {
        nodes_.emplace_back();
    } else {
        index = free_nodes_.back();
        free_nodes_.pop_back();
    }
    node& added = at(index);
    added.parent = parent;
    added.page = page;
    added.users = 1;
    added.in_parent = at(parent).children.emplace(std::vector<token_id>(tokens.begin(), tokens.end()), index).first;
    return index;
}

void prefix_trie::take(std::int64_t index) {
    node& taken = at(index);
    if (taken.users++ > 0)
        return;
    unused_.erase({taken.last_use, index});
}

void prefix_trie::give_back(std::int64_t index) {
    node& given = at(index);
    if (--given.users > 0)
        return;
    given.last_use = ++clock_;
    unused_.insert({given.last_use, index});
}

std::optional<page_id> prefix_trie::forget_oldest() {
    if (unused_.empty())
        return std::nullopt;
    const std::int64_t index = unused_.begin()->second;
    unused_.erase(unused_.begin());
    const node& forgotten = at(index);
    at(forgotten.parent).children.erase(forgotten.in_parent);
    free_nodes_.push_back(index);
    return forgotten.page;
}

} // namespace moira
