#pragma once

#include "core/base/ids.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace moira {

/// Full KV pages by the exact tokens that they and all pages before them hold. A node is one page; its children differ
/// in the tokens of the next page. Whoever uses a node uses all its ancestors and gives them back after it, so an
/// unused node's descendants are unused too, and for longer: the least recently used unused node is always a leaf.
class prefix_trie {
public:
    static constexpr std::int64_t root = 0;

    prefix_trie();

    /// The child of `parent` that holds exactly `tokens`.
    std::optional<std::int64_t> find(std::int64_t parent, std::span<const token_id> tokens) const;

    /// A new child with one user. Precondition: find() gives nothing.
    std::int64_t add(std::int64_t parent, std::span<const token_id> tokens, page_id page);

    page_id page(std::int64_t index) const { return at(index).page; }
    std::int64_t parent(std::int64_t index) const { return at(index).parent; }

    void take(std::int64_t index);      ///< one more user
    void give_back(std::int64_t index); ///< one user less; descendants first

    /// Removes the least recently used node that nobody uses and returns its page.
    std::optional<page_id> forget_oldest();

    std::int32_t unused() const noexcept { return static_cast<std::int32_t>(unused_.size()); } ///< nodes without users

private:
    struct token_order {
        using is_transparent = void;
        bool operator()(std::span<const token_id> a, std::span<const token_id> b) const {
            return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
        }
    };
    using child_map = std::map<std::vector<token_id>, std::int64_t, token_order>;

    struct node {
        std::int64_t parent = root;
        page_id page;
        std::int32_t users = 0;
        std::uint64_t last_use = 0; ///< ticks of clock_
        child_map children;
        child_map::iterator in_parent;
    };

    node& at(std::int64_t index) { return nodes_[static_cast<std::size_t>(index)]; }
    const node& at(std::int64_t index) const { return nodes_[static_cast<std::size_t>(index)]; }

    std::deque<node> nodes_; ///< a deque, so that growing moves no child_map
    std::vector<std::int64_t> free_nodes_;
    std::set<std::pair<std::uint64_t, std::int64_t>> unused_; ///< (last_use, node)
    std::uint64_t clock_ = 0;
};

} // namespace moira
