#include "plugins/shared_object_check.hpp"

#include "core/base/checked.hpp"

#include <algorithm>
#include <cstring>
#include <elf.h>
#include <fstream>

namespace moira {
namespace {

/// Shared objects have about ten.
constexpr int program_headers_max = 256;

template <class Pod>
bool read_at(std::ifstream& in, std::uint64_t offset, std::uint64_t file_bytes, Pod& out) {
    const auto end = checked_add(offset, sizeof(Pod));
    if (!end || *end > file_bytes)
        return false;
    in.seekg(static_cast<std::streamoff>(offset));
    return static_cast<bool>(in.read(reinterpret_cast<char*>(&out), sizeof out));
}

std::string check_segments(std::ifstream& in, const Elf64_Ehdr& header, std::uint64_t file_bytes) {
    if (header.e_phnum == 0 || header.e_phnum > program_headers_max || header.e_phentsize != sizeof(Elf64_Phdr))
        return "not a shared object: its program headers make no sense";
    for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr segment{};
        const auto offset = checked_add(header.e_phoff, i * sizeof segment);
        if (!offset || !read_at(in, *offset, file_bytes, segment))
            return "truncated: a program header lies outside the file";
        const auto end = checked_add(segment.p_offset, segment.p_filesz);
        if (segment.p_type == PT_LOAD && (!end || *end > file_bytes))
            return "truncated: a segment lies outside the file of " + std::to_string(file_bytes) + " bytes";
    }
    return {};
}

} // namespace

std::string check_shared_object(const std::filesystem::path& file) {
    std::error_code code;
    const std::uint64_t file_bytes = std::filesystem::file_size(file, code);
    std::ifstream in(file, std::ios::binary);
    if (code || !in)
        return "cannot be read";
    Elf64_Ehdr header{};
    if (!read_at(in, 0, file_bytes, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return "not a shared object: no ELF header";
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_type != ET_DYN)
        return "not a shared object of a 64-bit little-endian machine";
    return check_segments(in, header, file_bytes);
}

} // namespace moira
