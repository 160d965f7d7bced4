#include "core/model/config_reader.hpp"

#include "core/model/shown_name.hpp"

#include <cmath>
#include <cstdio>
#include <limits>

namespace moira {

namespace {

/// A value as a message shows it: hostile values may be long.
std::string shown(const nlohmann::json& value) {
    if (value.is_structured())
        return std::string("a JSON ") + value.type_name();
    constexpr std::size_t shown_bytes_max = 60;
    auto text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (text.size() > shown_bytes_max)
        text = text.substr(0, shown_bytes_max) + "...";
    return text;
}

std::string from_to(const std::string& what, const std::string& least, const std::string& most) {
    return what + " from " + least + " to " + most;
}

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

} // namespace

const nlohmann::json* config_reader::find(config_keys keys) const {
    for (const auto key : keys)
        if (const auto at = object_.find(key); at != object_.end() && !at->is_null())
            return &*at;
    return nullptr;
}

void config_reader::refuse(errc code, std::string message) {
    if (!failure_)
        failure_ = error{code, where_ + std::move(message)};
}

void config_reader::wrong(config_keys keys, const nlohmann::json* found, const std::string& expected) {
    std::string names;
    for (const auto key : keys)
        names += (names.empty() ? "" : " or ") + std::string(key);
    refuse(errc::invalid_config, names + (found ? " is " + shown(*found) : " is missing") + "; expected " + expected);
}

std::optional<std::int32_t> config_reader::as_integer(config_keys keys, const nlohmann::json& value,
                                                      integer_range range) {
    // An unsigned value beyond 2^63 would turn negative as a signed one.
    const bool fits =
        value.is_number_integer() &&
        (!value.is_number_unsigned() ||
         value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
    if (fits) {
        const auto number = value.get<std::int64_t>();
        if (number >= range.least && number <= range.most)
            return static_cast<std::int32_t>(number);
    }
    wrong(keys, &value, from_to("an integer", std::to_string(range.least), std::to_string(range.most)));
    return std::nullopt;
}

std::int32_t config_reader::integer(config_keys keys, integer_range range) {
    if (!has(keys))
        wrong(keys, nullptr, from_to("an integer", std::to_string(range.least), std::to_string(range.most)));
    return integer(keys, range, static_cast<std::int32_t>(range.least));
}

std::int32_t config_reader::integer(config_keys keys, integer_range range, std::int32_t fallback) {
    const auto* value = find(keys);
    return value ? as_integer(keys, *value, range).value_or(fallback) : fallback;
}

double config_reader::number(config_keys keys, number_range range) {
    if (!has(keys))
        wrong(keys, nullptr, from_to("a number", short_number(range.least), short_number(range.most)));
    return number(keys, range, range.least);
}

double config_reader::number(config_keys keys, number_range range, double fallback) {
    const auto* value = find(keys);
    if (!value)
        return fallback;
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (number >= range.least && number <= range.most)
        return number;
    wrong(keys, value, from_to("a number", short_number(range.least), short_number(range.most)));
    return fallback;
}

bool config_reader::flag(config_keys keys, bool fallback) {
    const auto* value = find(keys);
    if (!value)
        return fallback;
    if (value->is_boolean())
        return value->get<bool>();
    wrong(keys, value, "true or false");
    return fallback;
}

std::string config_reader::text(config_keys keys, std::string_view fallback) {
    const auto* value = find(keys);
    if (value && value->is_string())
        return value->get<std::string>();
    if (value)
        wrong(keys, value, "a string");
    return std::string(fallback);
}

std::vector<std::int32_t> config_reader::integers(config_keys keys, integer_range range, std::size_t count_max) {
    const auto* value = find(keys);
    if (!value)
        return {};
    if (!value->is_array()) {
        const auto single = as_integer(keys, *value, range);
        return single ? std::vector{*single} : std::vector<std::int32_t>{};
    }
    if (value->size() > count_max) {
        wrong(keys, value, "at most " + std::to_string(count_max) + " entries");
        return {};
    }
    std::vector<std::int32_t> numbers;
    for (const auto& entry : *value)
        if (const auto number = as_integer(keys, entry, range))
            numbers.push_back(*number);
    return numbers;
}

const nlohmann::json* config_reader::object(config_keys keys) {
    const auto* value = find(keys);
    if (value && !value->is_object()) {
        wrong(keys, value, "an object");
        return nullptr;
    }
    return value;
}

void config_reader::require_text(config_keys keys, std::string_view only) {
    const auto found = text(keys, only);
    if (found != only)
        refuse(errc::unsupported, std::string(*keys.begin()) + " is " + shown_name(found) + "; this build computes '" +
                                      std::string(only) + "' only");
}

} // namespace moira
