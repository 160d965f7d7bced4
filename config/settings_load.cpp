#include "config/settings_load.hpp"

#include "config/settings_check.hpp"
#include "config/settings_table.hpp"
#include "config/toml_parse.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace moira {

namespace {

constexpr std::size_t shown_bytes_max = 120; ///< of a wrong value in a message
constexpr std::size_t list_entries_max = 256;

/// A value on its way from a file or the command line into its field.
using raw_value = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;

std::string shown(std::string_view text) {
    std::string cut(text.substr(0, shown_bytes_max));
    return text.size() > shown_bytes_max ? cut + "..." : cut;
}

std::string in_quotes(std::string_view text) {
    return std::string("\"").append(shown(text)).append("\"");
}

std::string shown(const raw_value& value) {
    return std::visit(
        [](const auto& v) -> std::string {
            using type = std::decay_t<decltype(v)>;
            if constexpr (std::is_same_v<type, bool>)
                return v ? "true" : "false";
            else if constexpr (std::is_same_v<type, std::string>)
                return in_quotes(v);
            else if constexpr (std::is_same_v<type, std::vector<std::string>>)
                return "a list";
            else
                return std::to_string(v);
        },
        value);
}

tl::unexpected<error> unknown_key(const std::string& place, std::string_view key) {
    const std::string_view near = nearest_setting(key);
    return fail(errc::invalid_config,
                place + ": unknown key " + shown(key) +
                    (near.empty() ? "; `moira config` lists all keys" : "; did you mean " + std::string(near) + "?"));
}

tl::unexpected<error> wrong_value(const std::string& place, const setting_row& row, const std::string& found) {
    return fail(errc::invalid_config,
                place + ": " + std::string(row.key) + ": found " + found + ", expected " + setting_expectation(row));
}

bool in_range(const setting_row& row, double value) {
    return row.minimum >= row.maximum || (value >= row.minimum && value <= row.maximum);
}

// One overload per field type: the value when it has the right type and range, nothing otherwise.
std::optional<bool> converted(const setting_row&, const raw_value& raw, const bool*) {
    const bool* value = std::get_if<bool>(&raw);
    return value ? std::optional(*value) : std::nullopt;
}

template <class Integer>
requires(std::is_same_v<Integer, std::int32_t> ||
         std::is_same_v<Integer, std::uint64_t>) std::optional<Integer> converted(const setting_row& row,
                                                                                  const raw_value& raw,
                                                                                  const Integer*) {
    const std::int64_t* value = std::get_if<std::int64_t>(&raw);
    if (value == nullptr || !std::in_range<Integer>(*value) || !in_range(row, static_cast<double>(*value)))
        return std::nullopt;
    return static_cast<Integer>(*value);
}

std::optional<double> converted(const setting_row& row, const raw_value& raw, const double*) {
    double value = 0.0;
    if (const auto* whole = std::get_if<std::int64_t>(&raw))
        value = static_cast<double>(*whole);
    else if (const auto* real = std::get_if<double>(&raw))
        value = *real;
    else
        return std::nullopt;
    return std::isfinite(value) && in_range(row, value) ? std::optional(value) : std::nullopt;
}

std::optional<byte_size> converted(const setting_row& row, const raw_value& raw, const byte_size*) {
    std::optional<byte_size> size;
    if (const auto* whole = std::get_if<std::int64_t>(&raw); whole != nullptr && *whole >= 0)
        size = byte_size{static_cast<std::uint64_t>(*whole)};
    else if (const auto* text = std::get_if<std::string>(&raw))
        if (const auto parsed = parse_byte_size(*text))
            size = *parsed;
    return size && in_range(row, static_cast<double>(size->bytes)) ? size : std::nullopt;
}

std::optional<memory_budget> converted(const setting_row&, const raw_value& raw, const memory_budget*) {
    if (const auto* whole = std::get_if<std::int64_t>(&raw); whole != nullptr && *whole >= 0)
        return memory_budget::of_bytes(static_cast<std::uint64_t>(*whole));
    if (const auto* text = std::get_if<std::string>(&raw))
        if (const auto parsed = parse_memory_budget(*text))
            return *parsed;
    return std::nullopt;
}

std::optional<std::string> converted(const setting_row& row, const raw_value& raw, const std::string*) {
    const auto* text = std::get_if<std::string>(&raw);
    if (text == nullptr || text->find('\0') != std::string::npos)
        return std::nullopt;
    if (!row.choices.empty() && std::ranges::find(row.choices, *text) == row.choices.end())
        return std::nullopt;
    return *text;
}

std::optional<std::vector<std::string>> converted(const setting_row&, const raw_value& raw,
                                                  const std::vector<std::string>*) {
    if (const auto* list = std::get_if<std::vector<std::string>>(&raw))
        return *list;
    const auto* text = std::get_if<std::string>(&raw);
    if (text == nullptr || text->empty())
        return std::nullopt;
    return std::vector<std::string>{*text};
}

result<void> check_honoured(const setting_row& row, const std::string& place, const std::string& value) {
    if (row.honoured.empty() || std::ranges::find(row.honoured, std::string_view(value)) != row.honoured.end())
        return {};
    std::string served;
    for (const auto choice : row.honoured)
        served += (served.empty() ? "" : ", ") + (choice.empty() ? "\"\" (none)" : std::string(choice));
    return fail(errc::unsupported, place + ": " + std::string(row.key) + ": \"" + shown(std::string_view(value)) +
                                       "\" is not in this version; it serves " + served);
}

/// Checks one value and writes it into its field.
result<void> apply(loaded_settings& loaded, const setting_row& row, const raw_value& raw, const std::string& place,
                   std::string origin) {
    auto applied = std::visit(
        [&](auto* field) -> result<void> {
            auto value = converted(row, raw, field);
            if (!value)
                return wrong_value(place, row, shown(raw));
            if constexpr (std::is_same_v<decltype(field), std::string*>)
                if (auto honoured = check_honoured(row, place, *value); !honoured)
                    return honoured;
            *field = std::move(*value);
            return {};
        },
        row.field(loaded.values));
    if (applied)
        loaded.origins.insert_or_assign(std::string(row.key), std::move(origin));
    return applied;
}

// ---- the file ----------------------------------------------------------------------------------------------------

struct file_place {
    std::string_view name;

    std::string at(const toml::source_region& region) const {
        return at_line(region) + ":" + std::to_string(region.begin.column);
    }
    std::string at_line(const toml::source_region& region) const {
        return std::string(name) + ":" + std::to_string(region.begin.line);
    }
};

std::optional<std::vector<std::string>> text_list(const toml::array& array) {
    if (array.size() > list_entries_max)
        return std::nullopt;
    std::vector<std::string> list;
    for (const auto& entry : array) {
        const auto* text = entry.as_string();
        if (text == nullptr || text->get().empty() || text->get().find('\0') != std::string::npos)
            return std::nullopt;
        list.push_back(text->get());
    }
    return list;
}

/// Empty for tables, dates and lists of anything but texts.
std::optional<raw_value> raw_of(const toml::node& node) {
    if (const auto* value = node.as_boolean())
        return value->get();
    if (const auto* value = node.as_integer())
        return value->get();
    if (const auto* value = node.as_floating_point())
        return value->get();
    if (const auto* value = node.as_string())
        return value->get();
    if (const auto* array = node.as_array())
        if (auto list = text_list(*array))
            return std::move(*list);
    return std::nullopt;
}

std::string_view toml_type(const toml::node& node) {
    if (node.is_table())
        return "a table";
    if (node.is_array())
        return "a list of something else";
    return "a date or time";
}

result<void> apply_section(loaded_settings& loaded, std::string_view section, const toml::table& table,
                           const file_place& file) {
    for (const auto& [key, node] : table) {
        const std::string full = std::string(section) + "." + std::string(key.str());
        const setting_row* row = find_setting(full);
        if (row == nullptr)
            return unknown_key(file.at(key.source()), full);
        const auto raw = raw_of(node);
        if (!raw)
            return wrong_value(file.at(node.source()), *row, std::string(toml_type(node)));
        auto applied = apply(loaded, *row, *raw, file.at(node.source()), file.at_line(key.source()));
        if (!applied)
            return applied;
    }
    return {};
}

bool is_section(std::string_view name) {
    return std::ranges::any_of(settings_table(), [&](const setting_row& row) {
        return row.key.size() > name.size() && row.key.starts_with(name) && row.key[name.size()] == '.';
    });
}

result<void> apply_document(loaded_settings& loaded, const toml::table& document, const file_place& file) {
    for (const auto& [key, node] : document) {
        if (!is_section(key.str()))
            return unknown_key(file.at(key.source()), key.str());
        const toml::table* section = node.as_table();
        if (section == nullptr)
            return fail(errc::invalid_config, file.at(node.source()) + ": " + std::string(key.str()) +
                                                  ": found a value, expected a section [" + std::string(key.str()) +
                                                  "] with keys");
        auto applied = apply_section(loaded, key.str(), *section, file);
        if (!applied)
            return applied;
    }
    return {};
}

result<void> apply_file(loaded_settings& loaded, std::string_view text, std::string_view name) {
    if (text.size() > settings_file_bytes_max)
        return fail(errc::invalid_config, std::string(name) + ": found " + std::to_string(text.size()) +
                                              " bytes, expected at most " + std::to_string(settings_file_bytes_max));
    const auto document = parse_toml(text, name);
    if (!document)
        return tl::unexpected(document.error());
    return apply_document(loaded, *document, file_place{name});
}

result<std::string> read_file(const std::filesystem::path& file) {
    std::error_code code;
    if (!std::filesystem::exists(file, code))
        return fail(errc::not_found, file.string() + ": no such settings file");
    if (!std::filesystem::is_regular_file(file, code))
        return fail(errc::invalid_config, file.string() + ": not a regular file, expected a TOML file");
    std::ifstream stream(file, std::ios::binary);
    // One byte over the limit is enough to be refused by its size.
    std::string text(settings_file_bytes_max + 1, '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!stream.is_open() || stream.bad())
        return fail(errc::io_error, file.string() + ": cannot be read; check its permissions");
    text.resize(static_cast<std::size_t>(stream.gcount()));
    return text;
}

// ---- the command line --------------------------------------------------------------------------------------------

template <class Number>
std::optional<Number> whole_text(std::string_view text) {
    Number value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

/// A list in TOML's spelling, or one text.
std::optional<raw_value> raw_list(std::string_view text) {
    if (!text.starts_with('['))
        return raw_value(std::string(text));
    if (text.find('\n') != std::string_view::npos || text.size() > settings_file_bytes_max)
        return std::nullopt;
    const auto document = parse_toml("list = " + std::string(text), "--set");
    if (!document || document->size() != 1)
        return std::nullopt;
    return raw_of(*document->begin()->second.as_array());
}

/// The text of "key=text", read as the key's type wants it: texts need no quotes here.
std::optional<raw_value> raw_assignment(const setting_row& row, std::string_view text) {
    settings probe;
    return std::visit(
        [&](auto* field) -> std::optional<raw_value> {
            using type = std::remove_pointer_t<decltype(field)>;
            if constexpr (std::is_same_v<type, bool>) {
                if (text == "true" || text == "false")
                    return text == "true";
                return std::nullopt;
            } else if constexpr (std::is_same_v<type, std::int32_t> || std::is_same_v<type, std::uint64_t>) {
                const auto value = whole_text<std::int64_t>(text);
                return value ? std::optional<raw_value>(*value) : std::nullopt;
            } else if constexpr (std::is_same_v<type, double>) {
                const auto value = whole_text<double>(text);
                return value ? std::optional<raw_value>(*value) : std::nullopt;
            } else if constexpr (std::is_same_v<type, std::vector<std::string>>) {
                return raw_list(text);
            } else {
                return raw_value(std::string(text));
            }
        },
        row.field(probe));
}

result<void> apply_assignment(loaded_settings& loaded, const std::string& assignment) {
    constexpr const char* place = "--set";
    const std::size_t equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0)
        return fail(errc::invalid_config,
                    "--set: found \"" + shown(std::string_view(assignment)) + "\", expected section.key=value");
    const std::string key = assignment.substr(0, equals);
    const std::string_view text = std::string_view(assignment).substr(equals + 1);
    const setting_row* row = find_setting(key);
    if (row == nullptr)
        return unknown_key(place, key);
    const auto raw = raw_assignment(*row, text);
    if (!raw)
        return wrong_value(place, *row, in_quotes(text));
    return apply(loaded, *row, *raw, place, place);
}

result<loaded_settings> finished(loaded_settings loaded, std::span<const std::string> assignments) {
    for (const auto& assignment : assignments)
        if (auto applied = apply_assignment(loaded, assignment); !applied)
            return tl::unexpected(applied.error());
    if (auto checked = check_settings(loaded); !checked)
        return tl::unexpected(checked.error());
    return loaded;
}

} // namespace

std::string_view loaded_settings::origin(std::string_view key) const {
    const auto found = origins.find(key);
    return found == origins.end() ? std::string_view("default") : std::string_view(found->second);
}

result<loaded_settings> load_settings(const std::filesystem::path& file, std::span<const std::string> assignments) {
    if (file.empty())
        return finished({}, assignments);
    const auto text = read_file(file);
    if (!text)
        return tl::unexpected(text.error());
    return parse_settings(*text, file.string(), assignments);
}

result<loaded_settings> parse_settings(std::string_view toml, std::string_view name,
                                       std::span<const std::string> assignments) {
    loaded_settings loaded;
    if (auto applied = apply_file(loaded, toml, name); !applied)
        return tl::unexpected(applied.error());
    return finished(std::move(loaded), assignments);
}

} // namespace moira
