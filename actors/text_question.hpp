#pragma once

#include "core/base/error.hpp"
#include "core/batch/request_intake.hpp"

#include <optional>
#include <string>
#include <vector>

namespace moira {

/// What a client wants of the tokenizer alone: exactly one member is set.
struct text_question {
    std::optional<std::string> text;                   ///< to ids
    std::optional<std::vector<chat_message>> messages; ///< through the chat template to ids
    std::optional<std::vector<token_id>> ids;          ///< to text
    bool special = true;                               ///< `text` gets the model's begin-of-text token
};

struct text_answer {
    std::vector<token_id> ids;
    std::string text; ///< bytes that are no UTF-8 stay as they are
};

/// Answers with the tokenizer and chat template of `rules`. Pure: any thread; a megabyte takes about 0.1 s. Errors:
/// unsupported (no tokenizer, no template), token_out_of_range, and those of tokenizer and template.
result<text_answer> answer_text_question(const text_question& question, const intake_rules& rules);

} // namespace moira
