#include "core/model/bounded_json.hpp"

#include "core/base/json_depth.hpp"

#include <string>

namespace moira {

result<nlohmann::json> parse_json_object(std::string_view text, std::string_view name, errc code) {
    if (json_nests_deeper_than(text, config_json_depth_max))
        return fail(code, std::string(name) + " nests deeper than " + std::to_string(config_json_depth_max) + " levels");
    auto document = nlohmann::json::parse(text, nullptr, false);
    if (document.is_discarded())
        return fail(code, std::string(name) + " is not valid JSON");
    if (!document.is_object())
        return fail(code, std::string(name) + " holds a JSON " + document.type_name() + "; expected one object");
    return document;
}

} // namespace moira
