#include "core/model/content_hash.hpp"

#include <array>
#include <charconv>
#include <new>
#include <type_traits>

// Inlined, so that the size of the state is this header's and never that of another installed library.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace moira {

namespace {

static_assert(std::is_trivially_copyable_v<XXH3_state_t>, "copying a content_hasher copies bytes");

constexpr std::size_t hash_digits = 16;

XXH3_state_t* state_of(unsigned char* bytes) noexcept {
    return std::launder(reinterpret_cast<XXH3_state_t*>(bytes));
}

const XXH3_state_t* state_of(const unsigned char* bytes) noexcept {
    return std::launder(reinterpret_cast<const XXH3_state_t*>(bytes));
}

} // namespace

std::uint64_t content_hash(std::span<const std::byte> bytes) noexcept {
    return XXH3_64bits(bytes.data(), bytes.size());
}

content_hasher::content_hasher() noexcept {
    static_assert(sizeof(XXH3_state_t) <= state_bytes && alignof(XXH3_state_t) <= 64);
    auto* state = new (state_) XXH3_state_t;
    XXH3_INITSTATE(state);
    XXH3_64bits_reset(state);
}

void content_hasher::add(std::span<const std::byte> bytes) noexcept {
    XXH3_64bits_update(state_of(state_), bytes.data(), bytes.size());
}

void content_hasher::add(std::uint64_t number) noexcept {
    std::array<std::byte, sizeof number> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::byte>(number >> (8 * i));
    add(bytes);
}

std::uint64_t content_hasher::value() const noexcept {
    return XXH3_64bits_digest(state_of(state_));
}

std::string hash_text(std::uint64_t hash) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text(hash_digits, '0');
    for (std::size_t i = 0; i < hash_digits; ++i)
        text[hash_digits - 1 - i] = digits[hash >> (4 * i) & 0xfU];
    return text;
}

bool read_hash_text(std::string_view text, std::uint64_t& hash) noexcept {
    if (text.size() != hash_digits || text.find_first_not_of("0123456789abcdef") != std::string_view::npos)
        return false;
    return std::from_chars(text.data(), text.data() + text.size(), hash, 16).ec == std::errc();
}

} // namespace moira
