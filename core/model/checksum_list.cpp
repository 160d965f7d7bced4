#include "core/model/checksum_list.hpp"

#include "core/base/checked.hpp"
#include "core/model/content_hash.hpp"
#include "core/model/safetensors.hpp"

#include <algorithm>
#include <charconv>

namespace moira {

namespace {

constexpr std::string_view version = "1";

/// Cuts the text before the next separator off; without a separator all of it.
std::string_view take_until(std::string_view& text, char separator) {
    const auto end = std::min(text.find(separator), text.size());
    const auto part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return part;
}

bool read_number(std::string_view text, std::uint64_t& number) {
    const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
    return !text.empty() && read.ec == std::errc() && read.ptr == text.data() + text.size();
}

bool read_range(std::string_view text, checksum_range& range) {
    const auto offset = take_until(text, ','), bytes = take_until(text, ',');
    return read_number(offset, range.offset) && read_number(bytes, range.bytes) && read_hash_text(text, range.hash);
}

} // namespace

std::string checksums_text(std::span<const checksum_range> ranges, std::uint64_t data_begin) {
    std::string text(version);
    for (const auto& range : ranges)
        text += ";" + std::to_string(range.offset - data_begin) + "," + std::to_string(range.bytes) + "," +
                hash_text(range.hash);
    return text;
}

result<std::vector<checksum_range>> parse_checksums(std::string_view text, std::uint64_t data_begin,
                                                    std::uint64_t file_bytes, std::string_view name) {
    if (const auto found = take_until(text, ';'); found != version)
        return fail(errc::unsupported, std::string(name) +
                                           " has checksums in a form that this version does not read: " +
                                           "pack the model again, or use a newer version");
    std::vector<checksum_range> ranges;
    std::uint64_t end = data_begin;
    while (!text.empty()) {
        checksum_range range;
        const auto refuse = [&](std::string_view why) {
            return fail(errc::corrupt_file,
                        std::string(name) + ": checksum " + std::to_string(ranges.size()) + " " + std::string(why));
        };
        if (ranges.size() == safetensors_limits{}.tensors_max)
            return refuse("is one too many");
        if (!read_range(take_until(text, ';'), range))
            return refuse("is not written as begin,bytes,hash");
        const auto begin = checked_add(range.offset, data_begin);
        if (!begin || *begin < end)
            return refuse("overlaps the one before it");
        if (*begin > file_bytes || range.bytes > file_bytes - *begin)
            return refuse("lies beyond the end of the file");
        range.offset = *begin;
        end = range.offset + range.bytes;
        ranges.push_back(range);
    }
    return ranges;
}

const checksum_range* covering_range(std::span<const checksum_range> ranges, std::uint64_t offset,
                                     std::uint64_t bytes) noexcept {
    const auto after =
        std::upper_bound(ranges.begin(), ranges.end(), offset,
                         [](std::uint64_t at, const checksum_range& range) { return at < range.offset; });
    if (after == ranges.begin())
        return nullptr;
    const checksum_range& range = *std::prev(after);
    const std::uint64_t skipped = offset - range.offset;
    return skipped <= range.bytes && bytes <= range.bytes - skipped ? &range : nullptr;
}

error damaged_content(const checksum_range& range, std::uint64_t found, std::string_view what, std::string_view file) {
    return {errc::corrupt_file, std::string(file) + ": " + std::string(what) + ", " + std::to_string(range.bytes) +
                                    " bytes at " + std::to_string(range.offset) + ", has the checksum " +
                                    hash_text(found) + ", expected " + hash_text(range.hash) +
                                    ": the file is damaged; copy it again, or pack the model again"};
}

result<void> check_content(const checksum_range& range, std::span<const std::byte> content, std::string_view what,
                           std::string_view file) {
    const auto found = content_hash(content);
    if (content.size() == range.bytes && found == range.hash)
        return {};
    return tl::unexpected(damaged_content(range, found, what, file));
}

} // namespace moira
