#pragma once

#include "core/base/ids.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace moira {

/// How many leading tokens of a draft are right: a drafted token is accepted exactly when sampling yields it there, so
/// the text is the one without drafts. `sampled[i]` was sampled after draft[0 .. i); the one behind the last accepted
/// token is sampled from a true history too and is the next token of the text. Pure.
std::size_t count_accepted(std::span<const token_id> draft, std::span<const token_id> sampled) noexcept;

/// What became of drafts. `steps`: steps that verified one.
struct speculation_counts {
    std::uint64_t drafted = 0, accepted = 0, steps = 0;

    void add(std::size_t drafted_now, std::size_t accepted_now) noexcept {
        drafted += drafted_now;
        accepted += accepted_now;
        ++steps;
    }
};

} // namespace moira
