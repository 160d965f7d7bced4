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

result<void> read_expert(const model_file_reader& files, const expert_file_place& place, expert_id expert,
                         std::span<std::byte> scratch) {
    const expert_read& first = place.plan.reads[0];
    const bool whole = place.plan.read_count == 1 && place.checksums.size() == 1 &&
                       place.checksums[0].range.offset == first.offset && place.checksums[0].range.bytes == first.bytes;
    if (whole) {
        const auto hash = files.read_hashed(first, scratch);
        if (!hash)
            return tl::unexpected(hash.error());
        if (*hash == place.checksums[0].range.hash)
            return {};
    } else {
        for (const expert_read& read : place.plan.all_reads())
            if (auto done = files.read(read, scratch); !done)
                return done;
    }
    return check_expert_content(files, place.plan, place.checksums,
                                "expert " + std::to_string(expert.expert) + " of layer " +
                                    std::to_string(expert.layer) + " (" + place.name + ")",
                                scratch);
}

} // namespace moira
