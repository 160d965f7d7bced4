#include "core/text/byte_level.hpp"

#include <array>
#include <cstdint>

namespace moira {
namespace {

// 256 bytes, of which 188 are printable in Latin-1; the other 68 become U+0100 .. U+0143.
constexpr std::uint32_t shifted_first = 0x100;
constexpr std::uint32_t shifted_last = 0x143;

constexpr bool stands_for_itself(std::uint32_t byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct alphabet {
    std::array<std::array<char, 2>, 256> characters{};
    std::array<std::uint8_t, 256> lengths{};
    std::array<std::int16_t, shifted_last + 1> bytes{}; // code point to byte, -1: not in the alphabet
};

constexpr alphabet make_alphabet() {
    alphabet a;
    for (auto& byte : a.bytes)
        byte = -1;
    std::uint32_t next = shifted_first;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        const std::uint32_t code = stands_for_itself(byte) ? byte : next++;
        a.bytes[code] = static_cast<std::int16_t>(byte);
        if (code < 0x80) {
            a.characters[byte] = {static_cast<char>(code), 0};
            a.lengths[byte] = 1;
        } else {
            a.characters[byte] = {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
            a.lengths[byte] = 2;
        }
    }
    return a;
}

constexpr alphabet table = make_alphabet();

} // namespace

std::string_view byte_level_character(unsigned char byte) noexcept {
    return {table.characters[byte].data(), table.lengths[byte]};
}

std::string to_byte_level(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const char byte : bytes)
        text += byte_level_character(static_cast<unsigned char>(byte));
    return text;
}

std::string from_byte_level(std::string_view token) {
    std::string bytes;
    bytes.reserve(token.size());
    for (std::size_t i = 0; i < token.size();) {
        std::uint32_t code = static_cast<unsigned char>(token[i++]);
        if (code >= 0x80) {
            // Two-byte characters reach U+07FF, beyond the alphabet's end; longer ones cannot belong to it.
            if ((code & 0xE0) != 0xC0 || i == token.size())
                return std::string(token);
            code = ((code & 0x1F) << 6) | (static_cast<unsigned char>(token[i++]) & 0x3F);
        }
        if (code > shifted_last || table.bytes[code] < 0)
            return std::string(token);
        bytes += static_cast<char>(table.bytes[code]);
    }
    return bytes;
}

} // namespace moira
