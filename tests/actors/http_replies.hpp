#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// One reply as a strict client reads it.
struct http_reply_read {
    int status = 0;
    std::map<std::string, std::string> fields; ///< names in lower case
    std::string body;                          ///< chunks joined

    nlohmann::json json() const { return nlohmann::json::parse(body, nullptr, false); }
    std::string code() const;                ///< of the error object; empty: none
    std::vector<std::string> events() const; ///< data of server-sent events
    std::string field(const std::string& name) const;
};

/// Takes one complete reply from the front of `bytes`; nothing while there is none. `head_only`: the answer to HEAD.
/// Sets `malformed` when no further byte can make it one.
std::optional<http_reply_read> take_reply(std::string& bytes, bool& malformed, bool head_only = false);
