#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

inline constexpr std::size_t task_file_bytes_max = std::size_t{64} << 20;
/// A prompt of about 250 thousand tokens, as the server's longest line.
inline constexpr std::size_t task_line_bytes_max = std::size_t{1} << 20;
inline constexpr std::size_t tasks_max = 100'000;
inline constexpr std::size_t task_kinds_max = 256; ///< each is a row of the report
inline constexpr std::size_t task_kind_bytes_max = 64;

/// A question with the one answer that counts as right.
struct evaluation_task {
    std::string kind; ///< field "task"; empty: none
    std::string prompt;
    std::string answer; ///< trimmed, not empty
    std::size_t line = 0;
};

/// Without white space (space, tab, line ends, form feed, vertical tab) at both ends. Nothing else is forgiven: case,
/// punctuation and inner blanks count.
std::string_view trimmed_answer(std::string_view text) noexcept;

/// One JSON object per line: {"prompt": text, "answer": text}, and "task" if answers are to be counted by kind too.
/// Blank lines are skipped, further fields ignored. `name` stands in messages, with the line's number. Errors:
/// invalid_json, invalid_argument (a missing or wrong field, an answer of white space, no task at all), line_too_long.
result<std::vector<evaluation_task>> parse_tasks(std::string_view text, std::string_view name);

/// What was counted so far.
struct task_tally {
    struct count {
        std::uint64_t items = 0, correct = 0;
    };

    count all;
    std::map<std::string, count> kinds; ///< without tasks of no kind
    std::uint64_t answer_tokens = 0;

    /// `answer` as the model gave it.
    void add(const evaluation_task& task, std::string_view answer, std::int32_t tokens);

    double accuracy() const noexcept; ///< 0 without items
    double tokens_per_answer() const noexcept;
};

} // namespace moira
