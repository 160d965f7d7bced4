#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <filesystem>

namespace moira {

/// Where a pack goes: it grows in TARGET.part, with TARGET.pack-journal beside it, and appears in TARGET when it is
/// complete.
class pack_place {
public:
    /// Errors: invalid_argument (no name, a target that is the source or lies in it or holds it, or exists and is no
    /// folder).
    static result<pack_place> of(const std::filesystem::path& source, const std::filesystem::path& target);

    const std::filesystem::path& target() const noexcept { return target_; }
    const std::filesystem::path& part() const noexcept { return part_; }
    const std::filesystem::path& journal() const noexcept { return journal_; }

    /// Whether the target is a folder with something in it.
    bool occupied() const;

    /// Whether an earlier attempt put the pack in its place and was stopped before it removed the journal.
    bool published() const;

    /// Makes the folder that is filled. Errors: io_error.
    result<void> create() const;

    /// Throws an unfinished pack away. Errors: io_error.
    result<void> discard() const;

    /// `bytes`: of the whole pack; what an earlier attempt holds already counts as free. Errors: io_error (with the
    /// arithmetic).
    result<void> require_space(std::uint64_t bytes) const;

    /// Moves the folder to its place. Errors: io_error.
    result<void> publish() const;

private:
    std::filesystem::path target_, part_, journal_;
};

} // namespace moira
