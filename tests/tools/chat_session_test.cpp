#include "tools/moira/chat_session.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

/// A model with one token per byte: the prompt is all contents, the answer is "ok" and a number.
struct fake_model {
    std::int32_t context_max = 40;
    int answers = 0;
    std::optional<error> failure;
    finish_reason reason = finish_reason::stop;
    std::vector<chat_message> last_seen;

    chat_session::model ports() {
        chat_session::model model;
        model.context_max = context_max;
        model.answer_tokens_max = 8;
        model.count_tokens = [this](const generation_input& input) -> result<std::int32_t> {
            std::size_t bytes = 0;
            for (const auto& message : *input.messages)
                bytes += message.content.size();
            if (bytes + 1 > static_cast<std::size_t>(context_max))
                return fail(errc::prompt_too_long, "too long");
            return static_cast<std::int32_t>(bytes);
        };
        model.answer = [this](const generation_input& input) {
            last_seen = *input.messages;
            generation_result outcome;
            outcome.reason = reason;
            outcome.failure = failure;
            outcome.text = "ok" + std::to_string(answers++);
            return outcome;
        };
        return model;
    }
};

std::string contents(const std::vector<chat_message>& messages) {
    std::string all;
    for (const auto& message : messages)
        all += message.role.substr(0, 1) + ":" + message.content + " ";
    return all;
}

} // namespace

TEST_CASE("a conversation is kept and sent whole") {
    fake_model model;
    chat_session session(model.ports(), {}, "sys");
    REQUIRE(session.say("one"));
    REQUIRE(session.say("two"));
    CHECK(contents(model.last_seen) == "s:sys u:one a:ok0 u:two ");
    CHECK(contents(session.messages()) == "s:sys u:one a:ok0 u:two a:ok1 ");
    session.reset();
    CHECK(contents(session.messages()) == "s:sys ");
}

TEST_CASE("the oldest turns leave a full context, the system message stays, and room for an answer is kept") {
    fake_model model;
    chat_session session(model.ports(), {}, "sys");
    REQUIRE(session.say("aaaaaaaaa"));            // 3 + 9 + 3
    const auto second = session.say("bbbbbbbbb"); // 15 + 9, then 27 in all
    REQUIRE(second);
    CHECK(second->dropped_turns == 0);
    // 27 + 6 = 33 would leave 7 of the 8 tokens that an answer may take.
    const auto third = session.say("cccccc");
    REQUIRE(third);
    CHECK(third->dropped_turns == 1);
    CHECK(contents(model.last_seen) == "s:sys u:bbbbbbbbb a:ok1 u:cccccc ");
}

TEST_CASE("a text that fits alone drops everything else, even when little room is left") {
    fake_model model;
    chat_session session(model.ports(), {}, "");
    REQUIRE(session.say("one"));
    const auto turn = session.say(std::string(39, 'x'));
    REQUIRE(turn);
    CHECK(turn->dropped_turns == 1);
    CHECK(model.last_seen.size() == 1);
}

TEST_CASE("an error leaves the conversation as it was") {
    fake_model model;
    chat_session session(model.ports(), {}, "");
    REQUIRE(session.say("one"));
    const auto before = contents(session.messages());
    auto turn = session.say(std::string(40, 'x'));
    REQUIRE_FALSE(turn);
    CHECK(turn.error().code == errc::prompt_too_long);
    CHECK(contents(session.messages()) == before);
    model.failure = error{errc::io_error, "no"};
    turn = session.say("two");
    REQUIRE_FALSE(turn);
    CHECK(turn.error().code == errc::io_error);
    CHECK(contents(session.messages()) == before);
}

TEST_CASE("what was said of a cancelled answer is kept") {
    fake_model model;
    model.reason = finish_reason::cancelled;
    chat_session session(model.ports(), {}, "");
    REQUIRE(session.say("one"));
    CHECK(contents(session.messages()) == "u:one a:ok0 ");
}

TEST_CASE("lines are texts or commands") {
    using kind = chat_command::kind;
    CHECK(parse_chat_line("").what == kind::nothing);
    CHECK(parse_chat_line(" \t\r").what == kind::nothing);
    CHECK(parse_chat_line("hello\r").text == "hello");
    CHECK(parse_chat_line(" /help").what == kind::text);
    CHECK(parse_chat_line("/help").what == kind::help);
    CHECK(parse_chat_line("/reset ").what == kind::reset);
    CHECK(parse_chat_line("/quit\r").what == kind::quit);
    CHECK(parse_chat_line("//quit").what == kind::text);
    CHECK(parse_chat_line("//quit").text == "/quit");
    CHECK(parse_chat_line("/nonsense now").what == kind::unknown);
}
