#pragma once

#include "actors/runtime_statistics.hpp"
#include "core/batch/generation_request.hpp"

#include <string>
#include <string_view>

namespace moira {

/// What the steps spent most of their time on: "reading experts" or "computing"; "nothing" when no step ran.
std::string_view limiting_part(const runtime_statistics& statistics) noexcept;

/// What ended a request, in words: "the end of the text", "the limit of 40 tokens", "the full context", "Ctrl-C".
std::string ending_of(const generation_result& outcome, std::int32_t context_max);

/// One line for people, without its end: how much, how fast, and what limited it.
std::string run_summary(const runtime_statistics& statistics, const generation_result& outcome,
                        std::int32_t context_max);

} // namespace moira
