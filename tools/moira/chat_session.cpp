#include "tools/moira/chat_session.hpp"

#include <algorithm>

namespace moira {

chat_session::chat_session(model with, generation_input options, const std::string& system)
    : model_(std::move(with)), options_(std::move(options)), fixed_(system.empty() ? 0 : 1) {
    if (fixed_ != 0)
        messages_.push_back({"system", system});
}

/// A quarter of the context: less would end answers in the middle of a sentence, more would forget too early.
std::int32_t chat_session::room_wanted() const {
    const auto wanted = options_.max_tokens.value_or(model_.answer_tokens_max);
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(wanted, 1, std::max(1, model_.context_max / 4)));
}

result<std::size_t> chat_session::drop_until_fit(generation_input& input) const {
    auto& messages = *input.messages;
    for (std::size_t dropped = 0;; ++dropped) {
        const auto tokens = model_.count_tokens(input);
        if (!tokens && tokens.error().code != errc::prompt_too_long)
            return tl::unexpected(tokens.error());
        if (tokens && model_.context_max - *tokens >= room_wanted())
            return dropped;
        // Only the new text is left: any room that the context gives will do.
        if (messages.size() <= fixed_ + 1)
            return tokens ? result<std::size_t>(dropped) : tl::unexpected(tokens.error());
        const auto oldest = messages.begin() + static_cast<std::ptrdiff_t>(fixed_);
        messages.erase(oldest, oldest + 2);
    }
}

result<chat_session::turn> chat_session::say(std::string text) {
    auto input = options_;
    input.messages = messages_;
    input.messages->push_back({"user", std::move(text)});
    const auto dropped = drop_until_fit(input);
    if (!dropped)
        return tl::unexpected(dropped.error());
    auto kept = *input.messages;
    turn done;
    done.dropped_turns = *dropped;
    done.outcome = model_.answer(std::move(input));
    if (done.outcome.failure)
        return tl::unexpected(*done.outcome.failure);
    messages_ = std::move(kept);
    messages_.push_back({"assistant", done.outcome.text});
    return done;
}

void chat_session::reset() {
    messages_.resize(fixed_);
}

chat_command parse_chat_line(std::string_view line) {
    const auto begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos)
        return {};
    if (line.ends_with('\r'))
        line.remove_suffix(1);
    if (!line.starts_with('/'))
        return {chat_command::kind::text, std::string(line)};
    if (line.starts_with("//"))
        return {chat_command::kind::text, std::string(line.substr(1))};
    const auto word = line.substr(0, line.find_last_not_of(" \t") + 1);
    if (word == "/help" || word == "/?")
        return {chat_command::kind::help, {}};
    if (word == "/reset" || word == "/clear")
        return {chat_command::kind::reset, {}};
    if (word == "/quit" || word == "/exit" || word == "/bye")
        return {chat_command::kind::quit, {}};
    return {chat_command::kind::unknown, std::string(word)};
}

} // namespace moira
