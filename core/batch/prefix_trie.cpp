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
    --unused_;
    unused_leaves_.erase({taken.last_use, index});
}

void prefix_trie::give_back(std::int64_t index) {
    node& given = at(index);
    if (--given.users > 0)
        return;
    ++unused_;
    given.last_use = ++clock_;
    if (given.children.empty())
        unused_leaves_.insert({given.last_use, index});
}

std::optional<page_id> prefix_trie::forget_oldest() {
    if (unused_leaves_.empty())
        return std::nullopt;
    const std::int64_t index = unused_leaves_.begin()->second;
    unused_leaves_.erase(unused_leaves_.begin());
    node& forgotten = at(index);
    node& parent = at(forgotten.parent);
    parent.children.erase(forgotten.in_parent);
    if (forgotten.parent != root && parent.users == 0 && parent.children.empty())
        unused_leaves_.insert({parent.last_use, forgotten.parent});
    --unused_;
    free_nodes_.push_back(index);
    return forgotten.page;
}

} // namespace moira
