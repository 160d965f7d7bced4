#include "core/evaluate/task_list.hpp"

#include <doctest/doctest.h>
#include <fstream>
#include <sstream>

using namespace moira;

namespace {

void refused(const std::string& text, errc code, const std::string& place) {
    CAPTURE(text.substr(0, 100));
    const auto parsed = parse_tasks(text, "tasks");
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == code);
    CHECK(parsed.error().message.find(place) == 0);
}

const std::string good = R"({"prompt": "a", "answer": "b"})"
                         "\n";

} // namespace

TEST_CASE("tasks keep order, kind and line; blank lines and further fields do not matter") {
    const auto tasks =
        parse_tasks("{\"task\":\"add\",\"prompt\":\"1 + 1?\",\"answer\":\" 2\\n\",\"level\":[{}]}\r\n\n  \n" + good +
                        R"({"answer":"z","prompt":""})",
                    "tasks");
    REQUIRE_MESSAGE(tasks, tasks.error().message);
    REQUIRE(tasks->size() == 3);
    CHECK((*tasks)[0].kind == "add");
    CHECK((*tasks)[0].prompt == "1 + 1?");
    CHECK((*tasks)[0].answer == "2");
    CHECK((*tasks)[0].line == 1);
    CHECK((*tasks)[1].kind.empty());
    CHECK((*tasks)[1].line == 4);
    CHECK((*tasks)[2].line == 5);
}

TEST_CASE("the bundled tasks are read") {
    std::ifstream file(MOIRA_SOURCE_DIRECTORY "/config/models/moira-demo/tasks.jsonl");
    std::stringstream text;
    text << file.rdbuf();
    const auto tasks = parse_tasks(text.str(), "tasks");
    REQUIRE_MESSAGE(tasks, tasks.error().message);
    CHECK(tasks->size() == 500);
}

TEST_CASE("hostile lines are errors with their number") {
    refused(good + "{\"prompt\": ", errc::invalid_json, "tasks:2:");
    refused(good + "\n[1]", errc::invalid_json, "tasks:3:");
    refused(good + "{} {}", errc::invalid_json, "tasks:2:");
    refused(good + "{\"prompt\":\"\xFF\",\"answer\":\"a\"}", errc::invalid_json, "tasks:2:");
    refused(good + R"({"prompt": "a"})", errc::invalid_argument, "tasks:2:");
    refused(good + R"({"prompt": 1, "answer": "a"})", errc::invalid_argument, "tasks:2:");
    refused(good + R"({"prompt": "a", "answer": " \t\n"})", errc::invalid_argument, "tasks:2:");
    refused(good + R"({"prompt": "a", "answer": "a", "task": 1})", errc::invalid_argument, "tasks:2:");
    refused(good + R"({"prompt": "a", "answer": "a", "task": "\u001b[2J"})", errc::invalid_argument, "tasks:2:");
    refused(good + R"({"prompt": "a", "answer": "a", "task": ")" + std::string(task_kind_bytes_max + 1, 'k') + "\"}",
            errc::invalid_argument, "tasks:2:");
    refused(good + std::string(1'000'000, '['), errc::invalid_json, "tasks:2:");
    refused(good + std::string(task_line_bytes_max + 1, ' '), errc::line_too_long, "tasks:2:");
    refused("", errc::invalid_argument, "tasks:");
    refused("\n \n", errc::invalid_argument, "tasks:");
}

TEST_CASE("tasks and kinds are counted against their bounds") {
    std::string kinds, many;
    for (std::size_t index = 0; index < task_kinds_max; ++index)
        kinds += R"({"prompt":"a","answer":"b","task":"k)" + std::to_string(index) + "\"}\n";
    CHECK(parse_tasks(kinds, "tasks"));
    refused(kinds + R"({"prompt":"a","answer":"b","task":"one more"})", errc::invalid_argument,
            "tasks:" + std::to_string(task_kinds_max + 1) + ":");
    for (std::size_t index = 0; index < tasks_max; ++index)
        many += R"({"prompt":"","answer":"b"})"
                "\n";
    CHECK(parse_tasks(many, "tasks"));
    refused(many + good, errc::invalid_argument, "tasks:" + std::to_string(tasks_max + 1) + ":");
}

TEST_CASE("an answer is right byte for byte, but for white space at its ends") {
    CHECK(trimmed_answer(" \t\r\n\f\va b\n") == "a b");
    CHECK(trimmed_answer("").empty());
    CHECK(trimmed_answer(" \n").empty());
    CHECK(trimmed_answer("\u00a0a") == "\u00a0a");

    const evaluation_task add{"add", "1 + 1?", "2", 1}, word{"", "Say no", "No", 2};
    task_tally tally;
    tally.add(add, " 2\n", 4);
    tally.add(add, "2.", 3);
    tally.add(word, "no", 2);
    tally.add(word, "No", 1);
    CHECK(tally.all.items == 4);
    CHECK(tally.all.correct == 2);
    CHECK(tally.accuracy() == 0.5);
    CHECK(tally.tokens_per_answer() == 2.5);
    REQUIRE(tally.kinds.size() == 1);
    CHECK(tally.kinds.at("add").items == 2);
    CHECK(tally.kinds.at("add").correct == 1);
    CHECK(task_tally().accuracy() == 0);
}
