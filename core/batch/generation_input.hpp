#pragma once

#include "core/base/ids.hpp"
#include "core/text/chat_template.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// What a caller asks for, before anybody checked it: exactly one of prompt, ids and messages. Fields that are not set
/// take the server's `sampling.*` settings.
struct generation_input {
    std::optional<std::string> prompt;
    std::optional<std::vector<token_id>> ids;
    std::optional<std::vector<chat_message>> messages;
    std::optional<std::int64_t> max_tokens;
    std::optional<double> temperature, top_p, min_p, repetition_penalty;
    std::optional<std::int64_t> top_k;
    std::optional<std::uint64_t> seed;
    std::vector<std::string> stop;
    bool ignore_eos = false;
    std::optional<std::int64_t> timeout_ms;  ///< deadline from acceptance
};

}  // namespace moira
