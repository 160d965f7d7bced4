#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moira {

/// XXH3 with 64 bits and seed 0: finds damage, not malice, at a fraction of what reading the bytes from a disk takes.
std::uint64_t content_hash(std::span<const std::byte> bytes) noexcept;

/// The same hash of bytes that come piece by piece. Each piece belongs to one thread.
class content_hasher {
public:
    content_hasher() noexcept;

    void add(std::span<const std::byte> bytes) noexcept;
    void add(std::string_view text) noexcept { add(std::as_bytes(std::span(text))); }
    void add(std::uint64_t number) noexcept;

    std::uint64_t value() const noexcept;

private:
    static constexpr std::size_t state_bytes = 576; // checked against the library's own
    alignas(64) unsigned char state_[state_bytes];
};

/// 16 lower-case hexadecimal digits.
std::string hash_text(std::uint64_t hash);

/// False: anything but 16 lower-case hexadecimal digits.
bool read_hash_text(std::string_view text, std::uint64_t& hash) noexcept;

} // namespace moira
