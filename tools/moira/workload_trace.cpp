#include "tools/moira/workload_trace.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>

namespace moira {

namespace {

constexpr std::size_t columns_max = 64; // published traces have 3
constexpr std::int32_t tokens_max = 1 << 24;

struct columns {
    std::size_t time = columns_max, prompt = columns_max, answer = columns_max;
    bool complete() const { return time != columns_max && prompt != columns_max && answer != columns_max; }
};

/// Takes the first line off `text`, without its end.
std::string_view next_line(std::string_view& text) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r'))
        line.remove_suffix(1);
    return line;
}

/// Field `index` of a line; the columns that are read never hold quotes.
std::optional<std::string_view> field(std::string_view line, std::size_t index) {
    for (; index > 0; --index) {
        const auto comma = line.find(',');
        if (comma == std::string_view::npos)
            return std::nullopt;
        line.remove_prefix(comma + 1);
    }
    return line.substr(0, line.find(','));
}

columns find_columns(std::string_view header) {
    columns found;
    for (std::size_t i = 0; i < columns_max; ++i) {
        const auto name = field(header, i);
        if (!name)
            break;
        if (*name == "TIMESTAMP")
            found.time = i;
        else if (*name == "ContextTokens")
            found.prompt = i;
        else if (*name == "GeneratedTokens")
            found.answer = i;
    }
    return found;
}

/// A whole number of exactly these characters.
std::optional<std::int64_t> whole(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc{} || end != text.data() + text.size() || value < 0)
        return std::nullopt;
    return value;
}

std::optional<std::chrono::microseconds> seconds_of(std::string_view text) {
    constexpr double seconds_max = 1e11; // beyond any calendar, far below what microseconds can count
    double value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc{} || end != text.data() + text.size() || !(value >= 0 && value < seconds_max))
        return std::nullopt;
    return std::chrono::microseconds(std::llround(value * 1e6));
}

/// "2023-11-16 18:15:46.6805900", with T instead of the blank, with or without a zone (all rows have the same).
std::optional<std::chrono::microseconds> moment_of(std::string_view text) {
    if (text.size() < 19 || text[4] != '-')
        return seconds_of(text);
    const std::array<std::pair<std::size_t, std::size_t>, 6> places{
        {{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}}};
    std::array<std::int64_t, 6> parts{};
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto value = whole(text.substr(places[i].first, places[i].second));
        if (!value)
            return std::nullopt;
        parts[i] = *value;
    }
    const std::chrono::year_month_day day{std::chrono::year(static_cast<int>(parts[0])),
                                          std::chrono::month(static_cast<unsigned>(parts[1])),
                                          std::chrono::day(static_cast<unsigned>(parts[2]))};
    if (!day.ok() || parts[3] > 23 || parts[4] > 59 || parts[5] > 60)
        return std::nullopt;
    std::int64_t micros = 0, scale = 100'000;
    for (std::size_t i = 20; text.size() > 19 && text[19] == '.' && i < text.size() && text[i] >= '0' && text[i] <= '9';
         ++i) {
        micros += (text[i] - '0') * scale;
        scale /= 10;
    }
    return std::chrono::sys_days(day).time_since_epoch() + std::chrono::hours(parts[3]) +
           std::chrono::minutes(parts[4]) + std::chrono::seconds(parts[5]) + std::chrono::microseconds(micros);
}

std::optional<std::int32_t> tokens_of(std::string_view text) {
    const auto value = whole(text);
    return value && *value <= tokens_max ? std::optional(static_cast<std::int32_t>(std::max<std::int64_t>(1, *value)))
                                         : std::nullopt;
}

std::optional<workload_row> parse_row(std::string_view line, const columns& where) {
    const auto time = field(line, where.time), prompt = field(line, where.prompt), answer = field(line, where.answer);
    if (!time || !prompt || !answer)
        return std::nullopt;
    const auto arrival = moment_of(*time);
    const auto prompt_tokens = tokens_of(*prompt), answer_tokens = tokens_of(*answer);
    if (!arrival || !prompt_tokens || !answer_tokens)
        return std::nullopt;
    return workload_row{*arrival, *prompt_tokens, *answer_tokens};
}

} // namespace

result<std::vector<workload_row>> parse_workload(std::string_view text) {
    const auto where = find_columns(next_line(text));
    if (!where.complete())
        return fail(errc::corrupt_file,
                    "line 1: expected a CSV header with the columns TIMESTAMP, ContextTokens and GeneratedTokens");
    std::vector<workload_row> rows;
    for (std::size_t number = 2; !text.empty(); ++number) {
        const auto line = next_line(text);
        if (line.empty())
            continue;
        const auto row = parse_row(line, where);
        if (!row)
            return fail(errc::corrupt_file, "line " + std::to_string(number) + ": \"" +
                                                std::string(line.substr(0, 80)) +
                                                "\" is no time and two numbers of tokens");
        if (rows.size() == workload_rows_max)
            return fail(errc::corrupt_file,
                        "more than " + std::to_string(workload_rows_max) + " rows; give a part of them");
        rows.push_back(*row);
    }
    if (rows.empty())
        return fail(errc::corrupt_file, "there is no row below the header");
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.arrival < b.arrival; });
    const auto first = rows.front().arrival;
    for (auto& row : rows)
        row.arrival -= first;
    return rows;
}

std::size_t fit_workload(std::vector<workload_row>& rows, const workload_fit& fit) {
    std::size_t cut = 0;
    for (auto& row : rows) {
        row.arrival = std::chrono::microseconds(std::llround(static_cast<double>(row.arrival.count()) / fit.speedup));
        const auto before = row;
        if (fit.answer_tokens_max > 0)
            row.answer_tokens = std::min(row.answer_tokens, fit.answer_tokens_max);
        if (fit.context_max > 1) {
            row.answer_tokens = std::min(row.answer_tokens, fit.context_max / 2);
            row.prompt_tokens = std::min(row.prompt_tokens, fit.context_max - row.answer_tokens);
        }
        cut += row.answer_tokens != before.answer_tokens || row.prompt_tokens != before.prompt_tokens ? 1 : 0;
    }
    return cut;
}

} // namespace moira
