#pragma once

#include "core/base/error.hpp"
#include "core/batch/generation_input.hpp"
#include "core/batch/generation_request.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace moira {

/// A conversation with a model and its bound, the context. Plain state, no terminal and no runtime.
class chat_session {
public:
    struct model {
        std::int32_t context_max = 0;
        std::int32_t answer_tokens_max = 0; ///< of an answer when the options name no limit
        /// Tokens of a conversation in the chat template. Errors: prompt_too_long and whatever refuses a request.
        std::function<result<std::int32_t>(const generation_input&)> count_tokens;
        std::function<generation_result(generation_input)> answer;
    };

    struct turn {
        generation_result outcome;
        std::size_t dropped_turns = 0; ///< oldest ones that had to leave the context for this one
    };

    /// `options`: how answers are sampled. `system`: a first message that never leaves; empty: none.
    chat_session(model with, generation_input options, const std::string& system);

    /// One turn: the oldest turns are dropped until the new text and room for an answer fit. What was said of a
    /// cancelled answer is kept. An error (prompt_too_long, invalid_utf8, those of the runtime) leaves the conversation
    /// as it was.
    result<turn> say(std::string text);

    /// Forgets all but the system message.
    void reset();

    const std::vector<chat_message>& messages() const noexcept { return messages_; }

private:
    result<std::size_t> drop_until_fit(generation_input& input) const;
    std::int32_t room_wanted() const;

    model model_;
    generation_input options_;
    std::size_t fixed_; ///< messages that never leave
    std::vector<chat_message> messages_;
};

/// What a line of input means.
struct chat_command {
    enum class kind { nothing, text, help, reset, quit, unknown };
    kind what = kind::nothing;
    std::string text; ///< to say, or the unknown word
};

/// "/help" and the like are commands, "//" begins a text with a slash, blank lines are nothing.
chat_command parse_chat_line(std::string_view line);

} // namespace moira
