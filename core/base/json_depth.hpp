#pragma once

#include <cstddef>
#include <string_view>

namespace moira {

/// True when brackets outside strings nest deeper than `depth_max`: asked before a parser sees hostile text, so that
/// nothing recursive ever meets a deep document. Text that is no JSON gives either answer.
bool json_nests_deeper_than(std::string_view text, std::size_t depth_max) noexcept;

}  // namespace moira
