#include "core/text/json_reading.hpp"

#include "core/base/json_depth.hpp"

namespace moira {
result<nlohmann::json> parse_json_file(std::string_view json, std::string_view name) {
    if (json_nests_deeper_than(json, tokenizer_json_depth_max))
        return fail(errc::corrupt_file,
                    std::string(name) + ": nested deeper than " + std::to_string(tokenizer_json_depth_max) + " levels");
    try {
        return nlohmann::json::parse(json);
    } catch (const nlohmann::json::exception& problem) {
        return fail(errc::corrupt_file, std::string(name) + ": not JSON: " + problem.what());
    }
}

json_place json_place::member(const char* key) const {
    static const nlohmann::json null;
    std::string path = path_ + "." + key;
    if (!value_->is_object())
        return {null, std::move(path)};
    const auto found = value_->find(key);
    return {found == value_->end() ? null : *found, std::move(path)};
}

json_place json_place::element(std::size_t index) const {
    return {(*value_)[index], path_ + "[" + std::to_string(index) + "]"};
}

tl::unexpected<error> json_place::wrong(const std::string& expected) const {
    return fail(errc::corrupt_file, path_ + ": expected " + expected + ", found " + value_->type_name());
}

tl::unexpected<error> json_place::unsupported(const std::string& what) const {
    return fail(errc::unsupported, path_ + ": this build does not know " + what);
}

result<std::string> json_place::string() const {
    if (!value_->is_string())
        return wrong("a string");
    return value_->get_ref<const std::string&>();
}

result<bool> json_place::boolean(bool when_absent) const {
    if (value_->is_null())
        return when_absent;
    if (!value_->is_boolean())
        return wrong("true or false");
    return value_->get<bool>();
}

result<std::int64_t> json_place::integer() const {
    if (!value_->is_number_integer())
        return wrong("an integer");
    // An unsigned number above the signed range would come out negative: let it be out of every range instead.
    if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > INT64_MAX)
        return INT64_MAX;
    return value_->get<std::int64_t>();
}

result<void> json_place::expect_array() const {
    if (!value_->is_array())
        return wrong("an array");
    return {};
}

result<void> json_place::expect_object() const {
    if (!value_->is_object())
        return wrong("an object");
    return {};
}

} // namespace moira
