#pragma once

#include "actors/request_json.hpp"
#include "actors/text_question.hpp"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

// Requests and replies in OpenAI's shapes, over the fields of request_json. Plain functions; any thread.

namespace moira {

enum class openai_endpoint { completions, chat_completions };

/// A request as OpenAI's clients send it.
struct openai_request {
    generation_input input;
    bool stream = false;
    bool include_usage = false;       ///< one more chunk, with `usage`
    std::vector<std::string> ignored; ///< names of fields that had no effect, sorted
};

/// Reads a request. Unknown fields are ignored and listed; known ones that this server cannot serve are refused unless
/// their value asks for nothing; null is as good as absent. Errors name the field: invalid_argument, unsupported,
/// token_out_of_range, not_found (another model than `model`).
result<openai_request> read_openai_request(const nlohmann::json& object, openai_endpoint endpoint,
                                           std::string_view model);

/// POST /tokenize: `prompt` (or `text`) or `messages`, `add_special_tokens`. POST /detokenize: `token_ids` (or
/// `tokens`). Other fields are ignored.
result<text_question> read_tokenize_request(const nlohmann::json& object);
result<text_question> read_detokenize_request(const nlohmann::json& object);
nlohmann::ordered_json tokenize_json(const text_answer& answer, const runtime_identity& identity);
nlohmann::ordered_json detokenize_json(const text_answer& answer);

/// What stays the same in all chunks of one reply.
struct openai_reply {
    openai_endpoint endpoint = openai_endpoint::completions;
    std::string id;
    std::string model;
    std::int64_t created_s = 0; ///< Unix time
    bool include_usage = false; ///< chunks carry `usage: null` then
};

/// A reply that was not streamed. `moira` stands beside `usage`.
nlohmann::ordered_json openai_reply_json(const openai_reply& reply, const generation_result& outcome,
                                         nlohmann::ordered_json moira);

/// One piece of text; the first one of a chat names the role.
nlohmann::ordered_json openai_chunk_json(const openai_reply& reply, std::string_view text, bool first);

/// The chunk with `finish_reason`, and the one with `usage` and no choices.
nlohmann::ordered_json openai_finish_chunk_json(const openai_reply& reply, finish_reason reason);
nlohmann::ordered_json openai_usage_chunk_json(const openai_reply& reply, const generation_result& outcome);

/// One entry of /v1/models, with the context length.
nlohmann::ordered_json openai_model_json(const runtime_identity& identity, std::int64_t created_s);

} // namespace moira
