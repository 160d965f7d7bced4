#pragma once

#include "core/experts/eviction_policy.hpp"

#include <memory>

namespace moira {

// The policies behind make_eviction_policy, one file per family. Dimensions have been checked.

/// A quota per layer: slots / layers with experts. A layer at its quota gives up its own least recently used expert,
/// one below it takes that of the layer furthest above its own.
std::unique_ptr<eviction_policy> make_lru_layer_policy(const eviction_dimensions& dimensions);

/// Least frequently used, where a use counts half after `half_life` visits of the layer:
/// worth = sum over uses of 2^-(visits since / half_life).
std::unique_ptr<eviction_policy> make_lfu_decay_policy(const eviction_dimensions& dimensions);

/// Least frequently and recently used: worth = decayed uses / (1 + visits of the layer since the last use). After
/// Bilal and Kang (IEEE Access 2017), whose two partitions, a recent and a frequent one, become one product.
std::unique_ptr<eviction_policy> make_lfru_policy(const eviction_dimensions& dimensions);

/// Stale first: what the layer's latest visits did not use, the longest unused before; among equals the one whose layer
/// returns last. After SpecMD (arXiv 2602.03921).
std::unique_ptr<eviction_policy> make_least_stale_policy(const eviction_dimensions& dimensions);

/// The longest expected way to the next use leaves: layers until that layer returns + layers / use rate.
std::unique_ptr<eviction_policy> make_next_visit_policy(const eviction_dimensions& dimensions);

} // namespace moira
