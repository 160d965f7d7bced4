#include "tools/moira/bench_numbers.hpp"

#include "core/sample/sampler.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>
#include <xxhash.h>

namespace moira {

namespace {

double seconds_between(bench_clock::time_point from, bench_clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

/// Tokens of one step arrive microseconds apart. What comes this long after a moment belongs to a later step.
bench_clock::duration step_margin(const token_arrivals& arrivals) {
    std::vector<double> gaps;
    for (std::size_t i = 1; i < arrivals.size(); ++i)
        gaps.push_back(seconds_between(arrivals[i - 1], arrivals[i]));
    // A quarter of a step: far from both the next step and the rest of this one.
    return std::chrono::duration_cast<bench_clock::duration>(
        std::chrono::duration<double>(value_at_share(std::move(gaps), 0.5) / 4));
}

std::uint64_t count_within(const token_arrivals& arrivals, bench_clock::time_point after, bench_clock::time_point end) {
    return static_cast<std::uint64_t>(
        std::count_if(arrivals.begin(), arrivals.end(), [&](auto when) { return when > after && when <= end; }));
}

} // namespace

result<std::vector<std::int32_t>> parse_batches(std::string_view text) {
    std::vector<std::int32_t> batches;
    for (std::size_t begin = 0; begin <= text.size();) {
        const auto end = std::min(text.find(',', begin), text.size());
        std::int32_t value = 0;
        const auto [rest, problem] = std::from_chars(text.data() + begin, text.data() + end, value);
        if (problem != std::errc{} || rest != text.data() + end || value < 1 || value > bench_batch_max)
            return fail(errc::invalid_argument,
                        "--batch: '" + std::string(text.substr(begin, std::min<std::size_t>(end - begin, 40))) +
                            "' is no number of sequences from 1 to " + std::to_string(bench_batch_max) +
                            "; example: 1,4,16");
        if (batches.size() == bench_rows_max)
            return fail(errc::invalid_argument, "--batch: at most " + std::to_string(bench_rows_max) + " numbers");
        batches.push_back(value);
        begin = end + 1;
    }
    return batches;
}

spread spread_of(std::vector<double> values) {
    if (values.empty())
        return {};
    std::sort(values.begin(), values.end());
    const auto middle = values.size() / 2;
    const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    return {values.front(), median, values.back()};
}

double value_at_share(std::vector<double> values, double share) {
    if (values.empty())
        return 0;
    const auto wanted = static_cast<std::size_t>(share * static_cast<double>(values.size()));
    const auto place = values.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, values.size() - 1));
    std::nth_element(values.begin(), place, values.end());
    return *place;
}

batch_speed speed_of(bench_clock::time_point start, std::span<const token_arrivals> sequences) {
    const auto by_first = [](const auto& a, const auto& b) { return a.front() < b.front(); };
    const auto by_last = [](const auto& a, const auto& b) { return a.back() < b.back(); };
    const auto& last_started = *std::max_element(sequences.begin(), sequences.end(), by_first);
    const auto& first_ended = *std::min_element(sequences.begin(), sequences.end(), by_last);
    const auto& last_ended = *std::max_element(sequences.begin(), sequences.end(), by_last);
    const auto begin = last_started.front();
    const auto after = begin + step_margin(last_started);

    batch_speed speed;
    speed.prefill_s = seconds_between(start, begin);
    speed.decode_steps = count_within(first_ended, after, first_ended.back());
    speed.whole_batch = speed.decode_steps > 0;
    if (speed.whole_batch) {
        speed.decode_s = seconds_between(begin, first_ended.back());
        speed.decode_tokens = speed.decode_steps * sequences.size();
        return speed;
    }
    speed.decode_s = seconds_between(begin, last_ended.back());
    speed.decode_steps = count_within(last_ended, after, last_ended.back());
    for (const auto& arrivals : sequences)
        speed.decode_tokens += count_within(arrivals, after, last_ended.back());
    return speed;
}

double experts_per_step(const std::map<std::uint64_t, std::uint64_t>& looks) {
    const std::vector<std::pair<std::uint64_t, std::uint64_t>> points(looks.begin(), looks.end());
    const auto half = points.size() / 2;
    std::vector<double> slopes;
    for (std::size_t i = 0; half > 0 && i + half < points.size(); ++i) {
        const auto& [step, count] = points[i];
        const auto& [later_step, later_count] = points[i + half];
        slopes.push_back((static_cast<double>(later_count) - static_cast<double>(count)) /
                         static_cast<double>(later_step - step));
    }
    return spread_of(std::move(slopes)).median;
}

double distinct_experts_expected(std::int32_t experts, std::int32_t top_k, double rows) {
    if (experts <= 0)
        return 0;
    const double missed_by_a_row = 1.0 - static_cast<double>(top_k) / experts;
    return experts * (1.0 - std::pow(missed_by_a_row, rows));
}

double bytes_per_token(const weight_bytes& weights, double rows, double experts) {
    if (rows <= 0)
        return 0;
    const double embedding_row = static_cast<double>(weights.embedding) / std::max(weights.vocabulary, 1);
    const double always = static_cast<double>(weights.dense - std::min(weights.dense, weights.embedding));
    return embedding_row + (always + experts * static_cast<double>(weights.expert)) / rows;
}

std::string combined_hash(std::span<const std::string> hashes) {
    if (hashes.size() == 1)
        return hashes.front();
    std::string all;
    for (const auto& hash : hashes)
        all += hash;
    std::array<char, 17> digits{};
    std::snprintf(digits.data(), digits.size(), "%016llx",
                  static_cast<unsigned long long>(XXH64(all.data(), all.size(), 0)));
    return digits.data();
}

std::vector<token_id> bench_prompt(std::uint64_t index, std::int32_t tokens, std::int32_t vocabulary) {
    std::vector<token_id> ids(static_cast<std::size_t>(tokens));
    for (std::size_t position = 0; position < ids.size(); ++position)
        ids[position] = static_cast<token_id>(uniform_at(index, position) * vocabulary);
    return ids;
}

} // namespace moira
