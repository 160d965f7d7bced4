#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace moira {

/// Deepest nesting of a tokenizer file that is read; published ones stay below 10.
inline constexpr std::size_t tokenizer_json_depth_max = 64;

/// Parses hostile JSON: no exception leaves, nesting is bounded before anything is built, invalid UTF-8 is an error.
/// Errors: corrupt_file with the position.
result<nlohmann::json> parse_json_file(std::string_view json, std::string_view name);

/// One value inside a file together with its path, so that an error can say where it is.
class json_place {
public:
    json_place(const nlohmann::json& value, std::string path) : value_(&value), path_(std::move(path)) {}

    const nlohmann::json& value() const { return *value_; }
    const std::string& path() const { return path_; }

    bool is_null() const { return value_->is_null(); }
    bool is_object() const { return value_->is_object(); }
    bool is_string() const { return value_->is_string(); }
    std::size_t size() const { return value_->size(); }

    /// A member of an object; null when it is absent (the format treats both alike).
    json_place member(const char* key) const;
    json_place element(std::size_t index) const;

    result<std::string> string() const;
    result<bool> boolean(bool when_absent) const;
    result<std::int64_t> integer() const;
    result<void> expect_array() const;
    result<void> expect_object() const;

    tl::unexpected<error> wrong(const std::string& expected) const;
    tl::unexpected<error> unsupported(const std::string& what) const;

private:
    const nlohmann::json* value_;
    std::string path_;
};

} // namespace moira
