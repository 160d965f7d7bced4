#include "core/pack/pack_place.hpp"

#include "core/base/output_file.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <sys/stat.h>

namespace moira {

namespace {

namespace fs = std::filesystem;

tl::unexpected<error> cannot(const fs::path& path, const char* what, const std::error_code& reason) {
    return fail(errc::io_error, path.string() + " cannot be " + what + ": " + reason.message());
}

/// The folder itself, without "..", links and a last "/".
result<fs::path> real_path(const fs::path& path) {
    std::error_code reason;
    auto real = fs::weakly_canonical(path, reason);
    if (reason || path.empty())
        return fail(errc::invalid_argument, "\"" + path.string() + "\" names no folder");
    return real.has_filename() ? real : real.parent_path();
}

bool lies_in(const fs::path& inner, const fs::path& outer) {
    return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

/// Bytes on the disk of the files in a folder; preallocated ones count.
std::uint64_t allocated_bytes(const fs::path& folder) {
    constexpr std::uint64_t block_bytes = 512; // of st_blocks
    std::uint64_t bytes = 0;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
        struct stat status {};
        if (::lstat(entry.path().c_str(), &status) == 0)
            bytes += static_cast<std::uint64_t>(status.st_blocks) * block_bytes;
    }
    return bytes;
}

} // namespace

result<pack_place> pack_place::of(const fs::path& source, const fs::path& target) {
    const auto from = real_path(source), to = real_path(target);
    for (const auto* path : {&from, &to})
        if (!*path)
            return tl::unexpected(path->error());
    if (lies_in(*to, *from) || lies_in(*from, *to))
        return fail(errc::invalid_argument, to->string() + " is " + from->string() +
                                                ", lies in it or holds it: name a folder outside of the source");
    std::error_code reason;
    if (fs::exists(*to, reason) && !fs::is_directory(*to, reason))
        return fail(errc::invalid_argument, to->string() + " exists and is no folder: name another one");
    pack_place place;
    place.target_ = *to;
    place.part_ = to->string() + ".part";
    place.journal_ = to->string() + ".pack-journal";
    return place;
}

bool pack_place::occupied() const {
    std::error_code reason;
    return fs::exists(target_, reason) && !fs::is_empty(target_, reason);
}

bool pack_place::published() const {
    std::error_code reason;
    return occupied() && fs::exists(journal_, reason) && !fs::exists(part_, reason);
}

result<void> pack_place::create() const {
    std::error_code reason;
    fs::create_directories(target_.parent_path(), reason);
    if (reason)
        return cannot(target_.parent_path(), "made", reason);
    fs::create_directory(part_, reason);
    if (reason || fs::is_symlink(part_, reason))
        return cannot(part_, "made", reason ? reason : std::make_error_code(std::errc::file_exists));
    return {};
}

result<void> pack_place::discard() const {
    std::error_code reason;
    fs::remove_all(part_, reason);
    if (reason)
        return cannot(part_, "removed", reason);
    fs::remove(journal_, reason);
    if (reason)
        return cannot(journal_, "removed", reason);
    return {};
}

result<void> pack_place::require_space(std::uint64_t bytes) const {
    std::error_code reason;
    const auto space = fs::space(part_, reason);
    const std::uint64_t held = std::min(allocated_bytes(part_), bytes);
    const std::uint64_t needed = bytes - held;
    if (reason || space.available >= needed)
        return {};
    return fail(errc::io_error,
                "the disk of " + target_.string() + " has " + std::to_string(space.available) +
                    " bytes free, the pack needs " + std::to_string(needed) + " (" + std::to_string(bytes) + " in all" +
                    (held > 0 ? ", of which an earlier attempt holds " + std::to_string(held) : "") + "): free " +
                    std::to_string(needed - space.available) + " more, or name a folder on another disk");
}

result<void> pack_place::publish() const {
    int failure = flush_folder(part_);
    std::error_code reason(failure, std::generic_category());
    if (!reason)
        fs::rename(part_, target_, reason);
    if (!reason)
        reason = {flush_folder(target_.parent_path()), std::generic_category()};
    if (reason)
        return cannot(target_, "put in its place", reason);
    return {};
}

} // namespace moira
