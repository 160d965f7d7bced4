#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace moira {

/// A number of bytes that a person writes: "2GiB", "1.5 GB", "512MiB" or plain bytes.
struct byte_size {
    std::uint64_t bytes = 0;
    bool operator==(const byte_size&) const = default;
};

/// Memory for something whose total is known only later: bytes, a share of that total ("50%"), or all of it that fits
/// beside everything else ("auto").
struct memory_budget {
    enum class kind { bytes, share, automatic };

    kind kind_of = kind::share;
    std::uint64_t bytes = 0; ///< of kind::bytes
    double share = 1.0;      ///< of kind::share: more than 0, at most 1

    static memory_budget of_bytes(std::uint64_t bytes) noexcept { return {kind::bytes, bytes, 1.0}; }
    static memory_budget of_share(double share) noexcept { return {kind::share, 0, share}; }
    static memory_budget what_fits() noexcept { return {kind::automatic, 0, 1.0}; }

    /// Bytes of `total_bytes`: a share is rounded down, a number of bytes may exceed the total; all of it for "auto".
    std::uint64_t resolve(std::uint64_t total_bytes) const noexcept;

    bool operator==(const memory_budget&) const = default;
};

/// Units: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024), in any case; a space before the unit
/// is allowed; fractions only with a unit, rounded down. Errors: invalid_argument (says what was found and expected);
/// results over 2^63 - 1 are refused.
result<byte_size> parse_byte_size(std::string_view text);

/// A byte size, a percentage from 0.001 to 100, or "auto". Errors: invalid_argument.
result<memory_budget> parse_memory_budget(std::string_view text);

/// The largest binary unit that divides the number: "2GiB", "1500" (bytes). parse_byte_size reads it back exactly.
std::string format_byte_size(byte_size size);

/// "2GiB", "50%" or "auto".
std::string format_memory_budget(const memory_budget& budget);

} // namespace moira
