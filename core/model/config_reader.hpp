#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// One key in its spellings, the usual one first: {"n_routed_experts", "num_local_experts"}.
using config_keys = std::initializer_list<std::string_view>;

/// Smallest and largest value that makes sense.
struct integer_range {
    std::int64_t least = 0, most = 0;
};
struct number_range {
    double least = 0, most = 0;
};

/// Reads typed, ranged values from a JSON object. The first complaint is kept and names the key, what was found and
/// what was expected; after it every getter still answers something harmless, so that a description of an architecture
/// reads as a plain list. Ask failure() at the end. A null counts as absent. Borrows the object.
class config_reader {
public:
    /// `where` precedes keys in messages: "config.json: ".
    config_reader(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

    bool has(config_keys keys) const { return find(keys) != nullptr; }

    /// Required where no fallback is given. Fractions are refused, even 3.0.
    std::int32_t integer(config_keys keys, integer_range range);
    std::int32_t integer(config_keys keys, integer_range range, std::int32_t fallback);
    double number(config_keys keys, number_range range);
    double number(config_keys keys, number_range range, double fallback);
    bool flag(config_keys keys, bool fallback);
    std::string text(config_keys keys, std::string_view fallback);
    /// One integer or a list of them; at most `count_max`.
    std::vector<std::int32_t> integers(config_keys keys, integer_range range, std::size_t count_max);
    /// An object, or nothing where it is absent.
    const nlohmann::json* object(config_keys keys);

    /// Refuses any value but the expected one: `unsupported`.
    void require_text(config_keys keys, std::string_view only);

    void refuse(errc code, std::string message);
    const std::optional<error>& failure() const { return failure_; }
    const std::string& where() const { return where_; }

private:
    const nlohmann::json* find(config_keys keys) const;
    void wrong(config_keys keys, const nlohmann::json* found, const std::string& expected);
    std::optional<std::int32_t> as_integer(config_keys keys, const nlohmann::json& value, integer_range range);

    const nlohmann::json& object_;
    std::string where_;
    std::optional<error> failure_;
};

} // namespace moira
