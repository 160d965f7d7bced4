#include "core/experts/huge_page_buffer.hpp"

#include "core/base/checked.hpp"

#include <cerrno>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <utility>

namespace moira {

result<huge_page_buffer> huge_page_buffer::create(std::uint64_t bytes) {
    huge_page_buffer made;
    const auto whole = checked_add(bytes, 2 * alignment);
    void* mapping =
        whole ? ::mmap(nullptr, *whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (mapping == MAP_FAILED)
        return fail(errc::out_of_memory, "no " + std::to_string(bytes) + " bytes for reading experts (" +
                                             std::strerror(whole ? errno : ENOMEM) + ")");
    made.mapping_ = mapping;
    made.mapping_bytes_ = *whole;
    made.begin_ = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(mapping), alignment));
    made.bytes_ = bytes;
    // Only whole huge pages of the wanted bytes: a rounded-up tail would cost up to 2 MB that nobody uses.
    ::madvise(made.begin_, bytes / alignment * alignment, MADV_HUGEPAGE); // a wish
    return made;
}

huge_page_buffer::huge_page_buffer(huge_page_buffer&& other) noexcept {
    *this = std::move(other);
}

huge_page_buffer& huge_page_buffer::operator=(huge_page_buffer&& other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(mapping_bytes_, other.mapping_bytes_);
    std::swap(begin_, other.begin_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

huge_page_buffer::~huge_page_buffer() {
    if (mapping_)
        ::munmap(mapping_, mapping_bytes_);
}

} // namespace moira
