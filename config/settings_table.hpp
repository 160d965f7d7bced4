#pragma once

#include "config/settings.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace moira {

/// The field that a row of the table stands for; the alternative is the key's type.
using setting_field = std::variant<bool*, std::int32_t*, std::uint64_t*, double*, std::string*,
                                   std::vector<std::string>*, byte_size*, memory_budget*>;

/// Everything known of one key: the loader, `moira config`, error messages and documentation read this and nothing
/// else. The default is the value that `settings{}` holds in the field.
struct setting_row {
    std::string_view key;  ///< "experts.ram_budget"
    std::string_view unit; ///< "bytes", "s", "tokens"; empty where there is none
    setting_field (*field)(settings& all);
    double minimum = 0.0; ///< numbers only, both ends included
    double maximum = 0.0;
    std::span<const std::string_view> choices;  ///< texts only; empty: any text
    std::span<const std::string_view> honoured; ///< texts only: values this version can serve; empty: all
    std::string_view reason;                    ///< one line for people: what it does
};

/// All keys, grouped by section in the order of `settings`.
std::span<const setting_row> settings_table() noexcept;

/// Empty when nobody knows the key.
const setting_row* find_setting(std::string_view key) noexcept;

/// The known key or section that is nearest in spelling, for error messages; empty when none is near.
std::string_view nearest_setting(std::string_view key);

/// "whole number", "text", "true or false", ...
std::string_view setting_type_name(const setting_row& row);

/// What a correct value looks like: "a whole number from 1 to 64", "one of auto, direct, buffered".
std::string setting_expectation(const setting_row& row);

/// A value as `moira config` shows it. Byte sizes are numbers of bytes, budgets are texts such as "50%".
using setting_value = std::variant<bool, std::int64_t, std::uint64_t, double, std::string, std::vector<std::string>>;
setting_value read_setting(const setting_row& row, const settings& all);

/// The same for people: "2GiB", "50%", "on" as true, lists with commas.
std::string setting_text(const setting_row& row, const settings& all);

} // namespace moira
