#pragma once

#include "actors/http_parser.hpp"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace moira {

/// What stands at the head of a reply besides its length.
struct http_reply {
    int status = 200;
    std::string_view content_type = "application/json";
    std::string_view request_id; ///< already checked: printable ASCII; empty: none
    std::string extra_fields;    ///< whole lines, each with its line end
    std::int64_t unix_time_s = 0;
    bool keep_alive = true;
    bool body_wanted = true; ///< false answers HEAD: the length without the body
};

/// Appends a whole reply.
void append_reply(std::string& bytes, const http_reply& reply, std::string_view body);

/// Appends the head of a reply whose body follows in chunks.
void append_stream_head(std::string& bytes, const http_reply& reply);

/// One chunk of such a body; the empty one ends it.
void append_chunk(std::string& bytes, std::string_view part);

/// One server-sent event as a chunk.
void append_event(std::string& bytes, std::string_view data);

/// OpenAI's error object: `{"error":{"message","type","param","code"}}`. `code` is the name from our table, `param` the
/// field that the message names first, or null.
nlohmann::ordered_json http_error_json(const http_failure& failure);

/// The fields that belong to a failure's status: Retry-After, WWW-Authenticate.
std::string fields_of_failure(const http_failure& failure);

} // namespace moira
