#include "core/evaluate/task_list.hpp"

#include "core/base/json_depth.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace moira {

namespace {

constexpr std::string_view white_space = " \t\n\r\f\v";

/// A task has no nested values; further fields of other people's files may have some.
constexpr std::size_t task_depth_max = 16;

tl::unexpected<error> wrong_line(errc code, std::string_view name, std::size_t line, const std::string& what) {
    return fail(code, std::string(name) + ":" + std::to_string(line) + ": " + what);
}

/// Null where the field is no text.
const std::string* text_field(const nlohmann::json& object, const char* field) {
    const auto found = object.find(field);
    return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

result<evaluation_task> parse_task(std::string_view text, std::string_view name, std::size_t line) {
    const auto wrong = [&](const std::string& what) { return wrong_line(errc::invalid_argument, name, line, what); };
    if (json_nests_deeper_than(text, task_depth_max))
        return wrong_line(errc::invalid_json, name, line, "nested deeper than " + std::to_string(task_depth_max));
    const auto object = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (object.is_discarded() || !object.is_object())
        return wrong_line(errc::invalid_json, name, line, "expected one JSON object with \"prompt\" and \"answer\"");
    evaluation_task task;
    task.line = line;
    const auto* const prompt = text_field(object, "prompt");
    const auto* const answer = text_field(object, "answer");
    if (prompt == nullptr || answer == nullptr)
        return wrong(std::string("\"") + (prompt == nullptr ? "prompt" : "answer") + "\" is not there or no text");
    task.prompt = *prompt;
    task.answer = trimmed_answer(*answer);
    if (task.answer.empty())
        return wrong("\"answer\" is empty: an answer of white space cannot be compared");
    if (!object.contains("task"))
        return task;
    const auto* const kind = text_field(object, "task");
    const auto control = [](unsigned char byte) { return byte < 0x20 || byte == 0x7F; };
    // It is printed: a terminal must not take orders from it.
    if (kind == nullptr || kind->size() > task_kind_bytes_max || std::any_of(kind->begin(), kind->end(), control))
        return wrong("\"task\" is not a text of at most " + std::to_string(task_kind_bytes_max) +
                     " bytes without control characters");
    task.kind = *kind;
    return task;
}

} // namespace

std::string_view trimmed_answer(std::string_view text) noexcept {
    const auto first = text.find_first_not_of(white_space);
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(white_space) - first + 1);
}

result<std::vector<evaluation_task>> parse_tasks(std::string_view text, std::string_view name) {
    std::vector<evaluation_task> tasks;
    std::set<std::string> kinds;
    for (std::size_t line = 1; !text.empty(); ++line) {
        const auto end = text.find('\n');
        const auto here = text.substr(0, end);
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
        if (here.size() > task_line_bytes_max)
            return wrong_line(errc::line_too_long, name, line,
                              "more than " + std::to_string(task_line_bytes_max) + " bytes in one line");
        if (trimmed_answer(here).empty())
            continue;
        if (tasks.size() == tasks_max)
            return wrong_line(errc::invalid_argument, name, line, "more than " + std::to_string(tasks_max) + " tasks");
        auto task = parse_task(here, name, line);
        if (!task)
            return tl::unexpected(task.error());
        if (kinds.insert(task->kind).second && kinds.size() > task_kinds_max)
            return wrong_line(errc::invalid_argument, name, line,
                              "more than " + std::to_string(task_kinds_max) + " different values of \"task\"");
        tasks.push_back(std::move(*task));
    }
    if (tasks.empty())
        return fail(errc::invalid_argument, std::string(name) + ": there is no task in it");
    return tasks;
}

void task_tally::add(const evaluation_task& task, std::string_view answer, std::int32_t tokens) {
    const bool right = trimmed_answer(answer) == task.answer;
    const auto put = [right](count& into) {
        ++into.items;
        into.correct += right ? 1 : 0;
    };
    put(all);
    if (!task.kind.empty())
        put(kinds[task.kind]);
    answer_tokens += static_cast<std::uint64_t>(tokens);
}

double task_tally::accuracy() const noexcept {
    return all.items == 0 ? 0 : static_cast<double>(all.correct) / static_cast<double>(all.items);
}

double task_tally::tokens_per_answer() const noexcept {
    return all.items == 0 ? 0 : static_cast<double>(answer_tokens) / static_cast<double>(all.items);
}

} // namespace moira
