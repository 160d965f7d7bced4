#include "core/experts/expert_read_plan.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

tensor_location at(std::uint32_t file, std::uint64_t offset, std::uint64_t bytes) {
    tensor_location tensor;
    tensor.file = file;
    tensor.offset = offset;
    tensor.bytes = bytes;
    return tensor;
}

/// Every tensor lies inside a read, where the plan says.
void check_plan(const expert_read_plan& plan, std::span<const tensor_location* const> tensors) {
    for (std::size_t index = 0; index < tensors.size(); ++index) {
        bool covered = false;
        for (const expert_read& read : plan.all_reads()) {
            const bool inside = read.file == tensors[index]->file && tensors[index]->offset >= read.offset &&
                                tensors[index]->offset + tensors[index]->bytes <= read.offset + read.bytes;
            covered = covered || (inside && plan.tensor_offsets[index] - read.scratch_offset ==
                                                tensors[index]->offset - read.window_begin());
        }
        CHECK(covered);
    }
    std::uint64_t end = 0;
    for (const expert_read& read : plan.all_reads()) {
        CHECK(read.scratch_offset % read_alignment == 0);
        CHECK(read.scratch_offset >= end);
        end = read.scratch_offset + read.window_end() - read.window_begin();
    }
    CHECK(plan.scratch_bytes >= end);
}

std::uint32_t reads_for(const tensor_location& gate, const tensor_location& up, const tensor_location& down) {
    const std::array<const tensor_location*, 3> tensors = {&gate, &up, &down};
    const auto plan = plan_expert_read(tensors);
    REQUIRE(plan);
    check_plan(*plan, tensors);
    return plan->read_count;
}

} // namespace

TEST_CASE("adjacent tensors are one read in any order, distant ones and other files are reads of their own") {
    CHECK(reads_for(at(0, 100, 50), at(0, 150, 50), at(0, 200, 70)) == 1);
    CHECK(reads_for(at(0, 200, 70), at(0, 100, 50), at(0, 150, 50)) == 1);
    CHECK(reads_for(at(0, 0, 10), at(0, 10 + read_gap_bytes_max, 10), at(0, 5000, 10)) == 1);
    CHECK(reads_for(at(0, 0, 10), at(0, 11 + read_gap_bytes_max, 10), at(0, 5, 5)) == 2);
    CHECK(reads_for(at(0, 100, 50), at(1, 150, 50), at(0, 150, 70)) == 2);
    CHECK(reads_for(at(2, 100, 50), at(1, 150, 50), at(0, 150, 70)) == 3);
    CHECK(reads_for(at(0, 0, 1 << 20), at(0, 3 << 20, 1 << 20), at(0, 9 << 20, 4097)) == 3);
}

TEST_CASE("matrices and scales that lie together are one read, six apart are six, seven are too many") {
    for (const std::uint64_t gap : {std::uint64_t{0}, read_gap_bytes_max + 1}) {
        std::vector<tensor_location> locations;
        std::vector<const tensor_location*> tensors;
        std::uint64_t offset = 77;
        for (std::size_t index = 0; index < expert_tensors_max; ++index) {
            const std::uint64_t bytes = index % 2 == 0 ? 10'000 : 16; // a matrix, then its scales
            locations.push_back(at(0, offset, bytes));
            offset += bytes + gap;
        }
        for (const std::size_t index : {4U, 2U, 0U, 5U, 3U, 1U})
            tensors.push_back(&locations[index]);
        const auto plan = plan_expert_read(tensors);
        REQUIRE(plan);
        check_plan(*plan, tensors);
        CHECK(plan->read_count == (gap == 0 ? 1 : 6));
        tensors.push_back(&locations[0]);
        CHECK(plan_expert_read(tensors).error().code == errc::invalid_argument);
    }
}

TEST_CASE("offsets that would overflow are refused") {
    const tensor_location fine = at(0, 0, 10), absurd = at(0, ~0ULL - 5, 10), large = at(0, 5, ~0ULL);
    for (const tensor_location* bad : {&absurd, &large}) {
        const auto plan = plan_expert_read(std::array<const tensor_location*, 3>{&fine, bad, &fine});
        REQUIRE_FALSE(plan);
        CHECK(plan.error().code == errc::corrupt_file);
    }
}
