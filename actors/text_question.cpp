#include "actors/text_question.hpp"

namespace moira {

namespace {

result<text_answer> encoded(const std::string& text, const tokenizer& with, bool special) {
    auto ids = with.encode(text, special ? tokenizer::special::add : tokenizer::special::skip);
    if (!ids)
        return tl::unexpected<error>(std::move(ids.error()));
    return text_answer{std::move(*ids), {}};
}

} // namespace

result<text_answer> answer_text_question(const text_question& question, const intake_rules& rules) {
    if (!rules.text)
        return fail(errc::unsupported, "this model has no tokenizer; it serves token ids only");
    if (question.ids) {
        for (const auto id : *question.ids)
            if (id < 0 || id >= rules.vocabulary)
                return fail(errc::token_out_of_range, "found id " + std::to_string(id) +
                                                          "; this model has tokens 0 to " +
                                                          std::to_string(rules.vocabulary - 1));
        return text_answer{*question.ids, rules.text->decode(*question.ids, true)};
    }
    if (question.text)
        return encoded(*question.text, *rules.text, question.special);
    if (!question.messages)
        return fail(errc::invalid_argument, "neither a text, messages nor ids to convert");
    if (!rules.chat)
        return fail(errc::unsupported, "this model has no chat template; send `prompt` in place of `messages`");
    const auto text = rules.chat->render(*question.messages);
    if (!text)
        return tl::unexpected<error>(text.error());
    return encoded(*text, *rules.text, false); // templates write the begin-of-text token themselves
}

} // namespace moira
