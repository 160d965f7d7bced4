// Input: the first bytes of a .safetensors file. What the parser accepts must lie inside the file, as a map without
// overlap, and agree with itself.
#include "core/model/safetensors.hpp"

#include <cstdint>
#include <cstdlib>

namespace {

void require(bool holds) {
    if (!holds)
        std::abort();
}

void check_header(const moira::safetensors_header& header, std::uint64_t file_bytes) {
    std::uint64_t bytes_total = 0;
    for (const auto& [name, tensor] : header.tensors) {
        require(name == tensor.name);
        require(tensor.offset >= 8 && tensor.offset <= file_bytes);
        require(tensor.bytes <= file_bytes - tensor.offset);
        require(tensor.elements() * moira::tensor_type_bytes(tensor.type) == tensor.bytes);
        bytes_total += tensor.bytes;
    }
    require(bytes_total <= file_bytes - 8);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    // The file as it is, and with data that is not in the prefix.
    for (const std::uint64_t file_bytes : {std::uint64_t{size}, std::uint64_t{size} + 4096}) {
        const auto header = moira::parse_safetensors_header(bytes, file_bytes, "fuzz");
        if (header)
            check_header(*header, file_bytes);
        else
            require(header.error().code == moira::errc::corrupt_file ||
                    header.error().code == moira::errc::unsupported);
    }
    return 0;
}
