#include "core/experts/expert_read_plan.hpp"

#include "core/base/checked.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace moira {
namespace {

/// No file is larger; sums of a few such numbers do not overflow.
constexpr std::uint64_t file_bytes_max = 1ULL << 56;

} // namespace

std::uint64_t expert_read::window_end() const noexcept {
    return round_up(offset + bytes, read_alignment);
}

result<expert_read_plan> plan_expert_read(std::span<const tensor_location* const> tensors) {
    if (tensors.size() > expert_tensors_max)
        return fail(errc::invalid_argument, "an expert of " + std::to_string(tensors.size()) + " tensors, expected " +
                                                std::to_string(expert_tensors_max) + " at most");
    for (const tensor_location* tensor : tensors)
        if (tensor->offset > file_bytes_max || tensor->bytes > file_bytes_max)
            return fail(errc::corrupt_file, "tensor " + tensor->name + " lies at " + std::to_string(tensor->offset) +
                                                " with " + std::to_string(tensor->bytes) + " bytes");
    std::array<std::size_t, expert_tensors_max> places{};
    std::iota(places.begin(), places.end(), std::size_t{0});
    const auto order = std::span(places).first(tensors.size());
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return std::tuple(tensors[a]->file, tensors[a]->offset, a) <
               std::tuple(tensors[b]->file, tensors[b]->offset, b);
    });
    expert_read_plan plan;
    std::array<std::size_t, expert_tensors_max> read_of_tensor{};
    for (const std::size_t index : order) {
        const tensor_location& tensor = *tensors[index];
        const std::uint64_t end = tensor.offset + tensor.bytes;
        expert_read* last = plan.read_count == 0 ? nullptr : &plan.reads[plan.read_count - 1];
        if (last && last->file == tensor.file && tensor.offset <= last->offset + last->bytes + read_gap_bytes_max) {
            last->bytes = std::max(last->offset + last->bytes, end) - last->offset;
        } else {
            plan.reads[plan.read_count++] = {
                .file = tensor.file, .offset = tensor.offset, .bytes = tensor.bytes, .scratch_offset = 0};
        }
        read_of_tensor[index] = plan.read_count - 1;
    }
    for (expert_read& read : std::span(plan.reads).first(plan.read_count)) {
        read.scratch_offset = plan.scratch_bytes;
        plan.scratch_bytes += read.window_end() - read.window_begin();
    }
    for (std::size_t index = 0; index < tensors.size(); ++index) {
        const expert_read& read = plan.reads[read_of_tensor[index]];
        plan.tensor_offsets[index] = read.scratch_offset + tensors[index]->offset - read.window_begin();
    }
    return plan;
}

} // namespace moira
