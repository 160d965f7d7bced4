#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace moira {

/// Position of an entry in the vocabulary. Plain, because kernels and files exchange arrays of it.
using token_id = std::int32_t;

/// A number that cannot be mistaken for a number of another kind.
template <class Tag, class Value>
struct strong_id {
    Value value{};
    auto operator<=>(const strong_id&) const = default;
};

/// One running or waiting request inside the runtime; unique for the life of the process.
using request_id = strong_id<struct request_id_tag, std::uint64_t>;

/// One page of the KV cache (the same index in every layer).
using page_id = strong_id<struct page_id_tag, std::int32_t>;

/// One routed expert of the model. `layer` counts all layers, dense ones included.
struct expert_id {
    std::int32_t layer = 0;
    std::int32_t expert = 0;
    auto operator<=>(const expert_id&) const = default;
};

}  // namespace moira

template <class Tag, class Value>
struct std::hash<moira::strong_id<Tag, Value>> {
    std::size_t operator()(const moira::strong_id<Tag, Value>& id) const noexcept {
        return std::hash<Value>{}(id.value);
    }
};
