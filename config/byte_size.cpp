#include "config/byte_size.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>

namespace moira {

namespace {

// TOML's integers are signed 64-bit, so nothing larger can be written anyway.
constexpr std::uint64_t bytes_max = std::numeric_limits<std::int64_t>::max();

// "18446744073709551615.000 GiB" and some room: longer texts are not sizes.
constexpr std::size_t text_bytes_max = 64;

// Below, six digits are no longer written without an exponent, and no model has a hundred thousand experts.
constexpr double percent_min = 0.001;

struct unit_row {
    std::string_view name; ///< lower case
    std::uint64_t bytes;
};

constexpr std::array units{
    unit_row{"", 1},
    unit_row{"b", 1},
    unit_row{"kb", 1'000},
    unit_row{"mb", 1'000'000},
    unit_row{"gb", 1'000'000'000},
    unit_row{"tb", 1'000'000'000'000},
    unit_row{"kib", std::uint64_t{1} << 10},
    unit_row{"mib", std::uint64_t{1} << 20},
    unit_row{"gib", std::uint64_t{1} << 30},
    unit_row{"tib", std::uint64_t{1} << 40},
};

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ')
        text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ')
        text.remove_suffix(1);
    return text;
}

std::string lower_case(std::string_view text) {
    std::string lower(text);
    for (char& c : lower)
        if (c >= 'A' && c <= 'Z')
            c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

tl::unexpected<error> not_a_size(std::string_view text) {
    return fail(errc::invalid_argument, "found \"" + std::string(text.substr(0, text_bytes_max)) +
                                            "\", expected bytes such as 2GiB, 512MiB, 1.5GB or 1048576");
}

// Only digits and one dot: from_chars would also take "inf", "nan" and exponents.
std::size_t number_length(std::string_view text) {
    std::size_t length = 0;
    bool dot = false;
    while (length < text.size()) {
        const char c = text[length];
        if (c == '.' && !dot)
            dot = true;
        else if (c < '0' || c > '9')
            break;
        ++length;
    }
    return length;
}

const unit_row* unit_named(std::string_view name) {
    const std::string wanted = lower_case(name);
    for (const auto& unit : units)
        if (unit.name == wanted)
            return &unit;
    return nullptr;
}

result<byte_size> whole_size(std::string_view digits, const unit_row& unit, std::string_view text) {
    std::uint64_t count = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    if (code != std::errc{} || end != digits.data() + digits.size() || count > bytes_max / unit.bytes)
        return not_a_size(text);
    return byte_size{count * unit.bytes};
}

result<double> decimal(std::string_view digits, std::string_view text) {
    double value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code != std::errc{} || end != digits.data() + digits.size())
        return not_a_size(text);
    return value;
}

constexpr std::string_view what_fits_text = "auto";

} // namespace

std::uint64_t memory_budget::resolve(std::uint64_t total_bytes) const noexcept {
    if (kind_of == kind::bytes)
        return bytes;
    if (share >= 1.0)
        return total_bytes;
    // share < 1 keeps the product below the total, so the conversion back cannot overflow.
    return static_cast<std::uint64_t>(static_cast<long double>(total_bytes) * static_cast<long double>(share));
}

result<byte_size> parse_byte_size(std::string_view text) {
    const std::string_view body = trimmed(text);
    const std::size_t length = number_length(body);
    if (length == 0 || body.size() > text_bytes_max)
        return not_a_size(text);
    const std::string_view digits = body.substr(0, length);
    const std::string_view name = trimmed(body.substr(length));
    const unit_row* unit = unit_named(name);
    if (unit == nullptr)
        return not_a_size(text);
    if (digits.find('.') == std::string_view::npos)
        return whole_size(digits, *unit, text);
    const auto value = decimal(digits, text);
    if (!value)
        return tl::unexpected(value.error());
    const double bytes = *value * static_cast<double>(unit->bytes);
    if (unit->bytes == 1 || bytes >= static_cast<double>(bytes_max))
        return not_a_size(text);
    return byte_size{static_cast<std::uint64_t>(bytes)};
}

result<memory_budget> parse_memory_budget(std::string_view text) {
    std::string_view body = trimmed(text);
    if (body == what_fits_text)
        return memory_budget::what_fits();
    if (body.empty() || body.back() != '%') {
        const auto size = parse_byte_size(text);
        if (!size)
            return fail(errc::invalid_argument, size.error().message + ", a share such as 50%, or auto");
        return memory_budget::of_bytes(size->bytes);
    }
    body.remove_suffix(1);
    body = trimmed(body);
    const std::size_t length = number_length(body);
    const auto percent = length == body.size() && length > 0 && length <= text_bytes_max
                             ? decimal(body, text)
                             : result<double>(not_a_size(text));
    if (!percent || !(*percent >= percent_min && *percent <= 100.0))
        return fail(errc::invalid_argument, "found \"" + std::string(text.substr(0, text_bytes_max)) +
                                                "\", expected a share from 0.001% to 100%");
    return memory_budget::of_share(*percent / 100.0);
}

std::string format_byte_size(byte_size size) {
    constexpr std::array<const char*, 5> names{"", "KiB", "MiB", "GiB", "TiB"};
    std::uint64_t count = size.bytes;
    std::size_t step = 0;
    while (step + 1 < names.size() && count != 0 && count % 1024 == 0) {
        count /= 1024;
        ++step;
    }
    return std::to_string(count) + names[step];
}

std::string format_memory_budget(const memory_budget& budget) {
    if (budget.kind_of == memory_budget::kind::automatic)
        return std::string(what_fits_text);
    if (budget.kind_of == memory_budget::kind::bytes)
        return format_byte_size({budget.bytes});
    std::array<char, 32> digits{};
    const auto [end, code] = std::to_chars(digits.data(), digits.data() + digits.size(), budget.share * 100.0,
                                           std::chars_format::general, 6);
    return std::string(digits.data(), code == std::errc{} ? end : digits.data()) + "%";
}

} // namespace moira
