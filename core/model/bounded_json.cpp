#include "core/model/bounded_json.hpp"

#include <string>

namespace moira {

namespace {

/// Counts brackets outside strings, so that nothing recursive ever sees a deeper document.
bool nests_too_deep(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > json_depth_max)
                return true;
        } else if (c == '}' || c == ']') {
            --depth;
        }
    }
    return false;
}

} // namespace

result<nlohmann::json> parse_json_object(std::string_view text, std::string_view name, errc code) {
    if (nests_too_deep(text))
        return fail(code, std::string(name) + " nests deeper than " + std::to_string(json_depth_max) + " levels");
    auto document = nlohmann::json::parse(text, nullptr, false);
    if (document.is_discarded())
        return fail(code, std::string(name) + " is not valid JSON");
    if (!document.is_object())
        return fail(code, std::string(name) + " holds a JSON " + document.type_name() + "; expected one object");
    return document;
}

} // namespace moira
