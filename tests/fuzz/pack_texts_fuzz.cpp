// Input: the journal of an unfinished pack, and the same bytes as the checksums of a packed file and as the record of
// its experts' layout. What is accepted must
// lie within bounds and be written again as it was read.
#include "core/model/checksum_list.hpp"
#include "core/model/packed_experts.hpp"
#include "core/pack/pack_journal.hpp"

#include <cstdint>
#include <cstdlib>
#include <set>

namespace {

constexpr std::uint64_t units = 64, data_begin = 4096, file_bytes = 1 << 20;

void require(bool holds) {
    if (!holds)
        std::abort();
}

void check_journal(std::string_view text) {
    const auto content = moira::parse_journal(text, units, "fuzz");
    if (!content)
        return require(content.error().code == moira::errc::corrupt_file);
    require(content->bytes <= text.size());
    std::set<std::uint64_t> seen;
    std::string again = moira::journal_head(content->fingerprint);
    for (const auto& record : content->records) {
        require(record.unit < units && seen.insert(record.unit).second);
        require(record.error_max >= 0 && record.error_max <= 1);
        again += moira::journal_line(record);
    }
    const auto read = moira::parse_journal(again, units, "fuzz");
    require(read && read->records == content->records);
}

void check_checksums(std::string_view text) {
    const auto ranges = moira::parse_checksums(text, data_begin, file_bytes, "fuzz");
    if (!ranges)
        return require(ranges.error().code == moira::errc::corrupt_file ||
                       ranges.error().code == moira::errc::unsupported);
    std::uint64_t end = data_begin;
    for (const auto& range : *ranges) {
        require(range.offset >= end && range.bytes <= file_bytes - range.offset);
        end = range.offset + range.bytes;
        if (range.bytes > 0)
            require(moira::covering_range(*ranges, range.offset, range.bytes) == &range);
    }
    const auto again =
        moira::parse_checksums(moira::checksums_text(*ranges, data_begin), data_begin, file_bytes, "fuzz");
    require(again && again->size() == ranges->size());
}

void check_layout(std::string_view text) {
    const auto layout = moira::parse_layout(text, "fuzz");
    if (!layout)
        return require(layout.error().code == moira::errc::corrupt_file ||
                       layout.error().code == moira::errc::unsupported);
    require(layout->tensor_bytes() % moira::packed_expert_alignment == 0);
    require(layout->tensor_bytes() - layout->packed_bytes >= layout->scale_bytes());
    const auto again = moira::parse_layout(moira::layout_text(*layout), "fuzz");
    require(again && *again == *layout && again->plugin == layout->plugin);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check_journal(text);
    check_checksums(text);
    check_layout(text);
    return 0;
}
