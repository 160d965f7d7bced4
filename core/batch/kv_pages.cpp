#include "core/batch/kv_pages.hpp"

#include "core/batch/prefix_trie.hpp"

#include <algorithm>
#include <limits>

namespace moira {

struct kv_pages::impl {
    options limits;
    std::vector<page_id> free_pages;
    prefix_trie trie;

    /// Precondition: pages_free() > 0.
    page_id take_page() {
        if (free_pages.empty())
            return *trie.forget_oldest();
        const page_id page = free_pages.back();
        free_pages.pop_back();
        return page;
    }

    std::int32_t available() const noexcept { return static_cast<std::int32_t>(free_pages.size()) + trie.unused(); }
};

kv_pages::kv_pages(const options& wanted) : impl_(std::make_unique<impl>()) {
    options& limits = impl_->limits;
    limits = wanted;
    limits.page_tokens = std::max(limits.page_tokens, 1);
    // Token slots are numbered in 32 bits.
    limits.pages = std::clamp(limits.pages, 0, std::numeric_limits<std::int32_t>::max() / limits.page_tokens);
    // Taken from the back: the lowest page first.
    for (std::int32_t page = limits.pages; page-- > 0;)
        impl_->free_pages.push_back({page});
}

kv_pages::~kv_pages() = default;
kv_pages::kv_pages(kv_pages&&) noexcept = default;
kv_pages& kv_pages::operator=(kv_pages&&) noexcept = default;

std::int32_t kv_pages::page_tokens() const noexcept {
    return impl_->limits.page_tokens;
}

std::int32_t kv_pages::pages_total() const noexcept {
    return impl_->limits.pages;
}

std::int32_t kv_pages::pages_free() const noexcept {
    return impl_->available();
}

std::int32_t kv_pages::pages_remembered() const noexcept {
    return impl_->trie.unused();
}

kv_pages::sequence_pages kv_pages::start(std::span<const token_id> tokens) {
    sequence_pages sequence;
    if (!impl_->limits.reuse_prefixes || tokens.empty())
        return sequence;
    const auto size = static_cast<std::size_t>(page_tokens());
    const std::size_t pages_max = (tokens.size() - 1) / size;
    for (std::size_t page = 0; page < pages_max; ++page) {
        const auto next = impl_->trie.find(sequence.node, tokens.subspan(page * size, size));
        if (!next)
            break;
        impl_->trie.take(*next);
        sequence.node = *next;
        sequence.pages.push_back(impl_->trie.page(*next));
        ++sequence.registered;
    }
    return sequence;
}

bool kv_pages::grow(sequence_pages& sequence, std::int64_t tokens) {
    const std::int64_t size = page_tokens();
    const std::int64_t lacking = tokens / size + (tokens % size != 0) - std::ssize(sequence.pages);
    if (lacking > impl_->available())
        return false;
    for (std::int64_t i = 0; i < lacking; ++i)
        sequence.pages.push_back(impl_->take_page());
    return true;
}

std::int64_t kv_pages::grow_unused(sequence_pages& sequence, std::int64_t tokens) {
    const std::int64_t size = page_tokens();
    while (std::ssize(sequence.pages) * size < tokens && !impl_->free_pages.empty())
        sequence.pages.push_back(impl_->take_page());
    return std::ssize(sequence.pages) * size;
}

void kv_pages::shrink(sequence_pages& sequence, std::int64_t tokens) {
    const std::int64_t size = page_tokens();
    const std::int64_t needed = std::max<std::int64_t>(tokens / size + (tokens % size != 0), sequence.registered);
    while (std::ssize(sequence.pages) > needed) {
        impl_->free_pages.push_back(sequence.pages.back());
        sequence.pages.pop_back();
    }
}

void kv_pages::computed(sequence_pages& sequence, std::span<const token_id> tokens) {
    if (!impl_->limits.reuse_prefixes)
        return;
    const auto size = static_cast<std::size_t>(page_tokens());
    const std::size_t full = std::min(tokens.size() / size, sequence.pages.size());
    for (auto index = static_cast<std::size_t>(sequence.registered); index < full; ++index) {
        const auto content = tokens.subspan(index * size, size);
        page_id& page = sequence.pages[index];
        if (const auto known = impl_->trie.find(sequence.node, content)) {
            // Computed twice at the same time: the first copy is shared, this one is free again.
            impl_->trie.take(*known);
            impl_->free_pages.push_back(page);
            page = impl_->trie.page(*known);
            sequence.node = *known;
        } else {
            sequence.node = impl_->trie.add(sequence.node, content, page);
        }
        ++sequence.registered;
    }
}

void kv_pages::release(sequence_pages& sequence) {
    const auto registered = static_cast<std::size_t>(sequence.registered);
    while (sequence.pages.size() > registered) {
        impl_->free_pages.push_back(sequence.pages.back());
        sequence.pages.pop_back();
    }
    for (std::int64_t node = sequence.node; node != prefix_trie::root;) {
        const std::int64_t parent = impl_->trie.parent(node);
        impl_->trie.give_back(node);
        node = parent;
    }
    sequence = {};
}

void kv_pages::forget() {
    while (const auto page = impl_->trie.forget_oldest())
        impl_->free_pages.push_back(*page);
}

} // namespace moira
