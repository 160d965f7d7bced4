#include "core/speculate/acceptance.hpp"

#include <algorithm>

namespace moira {

std::size_t count_accepted(std::span<const token_id> draft, std::span<const token_id> sampled) noexcept {
    const auto compared = std::min(draft.size(), sampled.size());
    std::size_t accepted = 0;
    while (accepted < compared && draft[accepted] == sampled[accepted])
        ++accepted;
    return accepted;
}

} // namespace moira
