#pragma once

#include <string>
#include <string_view>

namespace moira {

/// The byte-level alphabet of GPT-2: every byte is written as one printable character, so that a vocabulary of
/// characters can hold any bytes. Printable bytes stand for themselves, the others are U+0100 and up in order.

/// The character (as UTF-8) that stands for `byte`.
std::string_view byte_level_character(unsigned char byte) noexcept;

/// `bytes` written in the alphabet.
std::string to_byte_level(std::string_view bytes);

/// The bytes that `token` stands for. A token with any character outside the alphabet stands for itself, as in the
/// reference decoder (added tokens such as `<｜User｜>`).
std::string from_byte_level(std::string_view token);

} // namespace moira
