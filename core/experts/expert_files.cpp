#include "core/experts/expert_files.hpp"

#include "core/experts/available_memory.hpp"

namespace moira {
namespace {

std::string mebibytes(std::uint64_t bytes) {
    return std::to_string(bytes / (1ULL << 20) + (bytes % (1ULL << 20) != 0)) + " MiB";
}

} // namespace

std::string open_expert_files(const checkpoint& model, expert_io io, std::optional<std::uint64_t> total,
                              bool checksummed, model_file_reader& files) {
    bool direct = io == expert_io::direct;
    std::string choice = direct ? "direct, as set" : "buffered, as set";
    if (io == expert_io::automatic) {
        const std::uint64_t bytes = total.value_or(UINT64_MAX), available = available_memory_bytes();
        direct = bytes > available / 2;
        choice = (direct ? "direct: " : "buffered: ") + mebibytes(bytes) + " of experts " +
                 (direct ? "do not fit" : "fit") + " in half of the " + mebibytes(available) + " of memory available";
    }
    if (checksummed)
        choice += ", compared with checksums";
    for (std::size_t index = 0; index < model.files().size(); ++index)
        files.add(model.file_descriptor(static_cast<std::uint32_t>(index)), model.files()[index], direct);
    return choice;
}

} // namespace moira
