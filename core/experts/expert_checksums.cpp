#include "core/experts/expert_checksums.hpp"

#include "core/model/content_hash.hpp"

namespace moira {

std::vector<checked_range> checked_ranges(const checkpoint& model, const expert_read_plan& plan) {
    std::vector<checked_range> found;
    for (std::uint32_t index = 0; index < plan.read_count; ++index) {
        const expert_read& read = plan.reads[index];
        for (std::uint64_t at = read.offset; at < read.offset + read.bytes;) {
            const auto* range = covering_range(model.checksums(read.file), at, 1);
            if (!range || range->offset != at || range->bytes > read.offset + read.bytes - at)
                break; // not a packed expert: what is read along belongs to others
            found.push_back({*range, index, read.scratch_offset + at - read.window_begin()});
            at += range->bytes;
        }
    }
    return found;
}

result<void> check_expert_content(const model_file_reader& files, const expert_read_plan& plan,
                                  std::span<const checked_range> ranges, std::string_view what,
                                  std::span<std::byte> scratch) {
    for (const checked_range& checked : ranges) {
        const auto content = scratch.subspan(checked.scratch_offset, checked.range.bytes);
        if (content_hash(content) == checked.range.hash)
            continue;
        const expert_read& read = plan.reads[checked.read];
        files.forget(read);
        if (auto again = files.read(read, scratch); !again)
            return again;
        if (auto fine = check_content(checked.range, content, what, files.name(read.file)); !fine)
            return fine;
    }
    return {};
}

} // namespace moira
