#pragma once

#include <cstddef>
#include <string_view>

namespace moira {

/// Letters to insert, remove or replace to get from one word to the other (Levenshtein 1966). Time and memory grow with
/// the product of the lengths: callers bound them.
std::size_t spelling_distance(std::string_view a, std::string_view b);

/// The most letters by which a misspelling of `word` differs: a third wrong is a misspelling, more is another word.
constexpr std::size_t misspelling_distance_max(std::string_view word) noexcept {
    return word.size() / 3 + 1;
}

} // namespace moira
