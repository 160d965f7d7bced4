#include "core/pack/pack_journal.hpp"

#include "core/base/read_only_file.hpp"
#include "core/model/content_hash.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

namespace moira {

namespace {

constexpr std::string_view head_word = "moira-pack-1";
/// Longest line: 20 digits, three hashes of 16, separators.
constexpr std::size_t line_bytes_max = 80;

std::string with_checksum(std::string line) {
    const auto hash = content_hash(std::as_bytes(std::span(line)));
    return line + " " + hash_text(hash) + "\n";
}

/// The next complete line without its checksum; empty when there is none.
std::string_view take_line(std::string_view text) {
    constexpr std::size_t checksum_bytes = 1 + 16; // a blank and the digits
    const auto end = text.substr(0, line_bytes_max).find('\n');
    if (end == std::string_view::npos || end <= checksum_bytes)
        return {};
    const auto line = text.substr(0, end - checksum_bytes);
    std::uint64_t written = 0;
    if (text[line.size()] != ' ' || !read_hash_text(text.substr(line.size() + 1, checksum_bytes - 1), written) ||
        written != content_hash(std::as_bytes(std::span(line))))
        return {};
    return line;
}

std::string_view take_word(std::string_view& line) {
    const auto end = std::min(line.find(' '), line.size());
    const auto word = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
    return word;
}

bool read_record(std::string_view line, std::uint64_t units, journal_record& record) {
    const auto unit = take_word(line), hash = take_word(line);
    std::uint64_t error_bits = 0;
    const auto read = std::from_chars(unit.data(), unit.data() + unit.size(), record.unit);
    if (unit.empty() || read.ec != std::errc() || read.ptr != unit.data() + unit.size() || record.unit >= units ||
        !read_hash_text(hash, record.hash) || !read_hash_text(line, error_bits))
        return false;
    record.error_max = std::bit_cast<double>(error_bits);
    return record.error_max >= 0 && record.error_max <= 1; // false for NaN too
}

tl::unexpected<error> cannot(const std::filesystem::path& path, const char* what) {
    return fail(errc::io_error, path.string() + " cannot be " + what + ": " + std::strerror(errno));
}

} // namespace

std::string journal_head(std::uint64_t fingerprint) {
    return with_checksum(std::string(head_word) + " " + hash_text(fingerprint));
}

std::string journal_line(const journal_record& record) {
    return with_checksum(std::to_string(record.unit) + " " + hash_text(record.hash) + " " +
                         hash_text(std::bit_cast<std::uint64_t>(record.error_max)));
}

result<journal_content> parse_journal(std::string_view text, std::uint64_t units, std::string_view name) {
    journal_content content;
    auto head = take_line(text);
    const auto whole = head.size();
    if (take_word(head) != head_word || !read_hash_text(head, content.fingerprint))
        return fail(errc::corrupt_file, std::string(name) + " is not a journal of `moira pack` of this version: " +
                                            "remove it, or name another folder");
    constexpr std::size_t checksum_bytes = 1 + 16 + 1;
    content.bytes = whole + checksum_bytes;
    std::vector<bool> seen(static_cast<std::size_t>(units));
    while (true) {
        const auto line = take_line(text.substr(content.bytes));
        journal_record record;
        if (line.empty() || !read_record(line, units, record) || seen[static_cast<std::size_t>(record.unit)])
            return content;
        seen[static_cast<std::size_t>(record.unit)] = true;
        content.records.push_back(record);
        content.bytes += line.size() + checksum_bytes;
    }
}

pack_journal::pack_journal(pack_journal&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), bytes_(other.bytes_),
      records_(std::move(other.records_)) {}

pack_journal::~pack_journal() {
    if (descriptor_ >= 0)
        ::close(descriptor_);
}

result<pack_journal> pack_journal::open(const std::filesystem::path& path, std::uint64_t fingerprint,
                                        std::uint64_t units) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (descriptor < 0)
        return cannot(path, "opened");
    pack_journal journal(path, descriptor);
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0)
        return fail(errc::invalid_argument, path.string() + " is in use: another `moira pack` writes there");
    if (auto read = journal.read(fingerprint, units); !read)
        return tl::unexpected(read.error());
    return journal;
}

result<void> pack_journal::read(std::uint64_t fingerprint, std::uint64_t units) {
    // Room for every unit once, and for a line that a crash cut.
    const auto text = read_text_file(path_, line_bytes_max * (units + 2));
    if (!text)
        return tl::unexpected(text.error());
    const auto head = journal_head(fingerprint);
    // New, or cut before its head was whole: the next one takes its place.
    const bool begins = text->size() < head.size() && text->find('\n') == std::string::npos;
    if (!begins) {
        auto content = parse_journal(*text, units, path_.string());
        if (!content)
            return tl::unexpected(content.error());
        if (content->fingerprint != fingerprint)
            return fail(errc::invalid_argument,
                        path_.string() +
                            " belongs to an unfinished pack of other files or with other options: finish " +
                            "that one, or add --restart to throw it away");
        bytes_ = content->bytes;
        records_ = std::move(content->records);
    }
    if (::ftruncate(descriptor_, static_cast<off_t>(bytes_)) != 0)
        return cannot(path_, "cut");
    return begins ? write(head) : result<void>();
}

result<void> pack_journal::write(std::string_view text) {
    while (!text.empty()) {
        const auto written = ::pwrite(descriptor_, text.data(), text.size(), static_cast<off_t>(bytes_));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return cannot(path_, "written");
        text.remove_prefix(static_cast<std::size_t>(written));
        bytes_ += static_cast<std::uint64_t>(written);
    }
    if (::fdatasync(descriptor_) != 0)
        return cannot(path_, "written");
    return {};
}

result<void> pack_journal::append(std::span<const journal_record> records) {
    std::string text;
    for (const auto& record : records)
        text += journal_line(record);
    return write(text);
}

result<void> pack_journal::remove() {
    if (::unlink(path_.c_str()) != 0 && errno != ENOENT)
        return cannot(path_, "removed");
    return {};
}

} // namespace moira
