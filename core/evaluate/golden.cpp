#include "core/evaluate/golden.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>

namespace moira {

namespace {

using floats = std::span<const float>;

std::string in_digits(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
}

/// A NaN is infinitely far from everything.
double largest_difference(floats a, floats b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        largest = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(largest, difference);
    }
    return largest;
}

template <class T>
std::span<const T> row_of(const std::vector<T>& values, std::size_t row, std::size_t width) {
    return std::span(values).subspan(row * width, width);
}

bool same_route(const golden_record& record, const prompt_pass& pass, std::size_t row) {
    const auto width = static_cast<std::size_t>(record.top_k);
    for (const auto& [layer, expected] : record.routing) {
        const auto found = pass.routing.find(layer);
        if (found == pass.routing.end())
            return false;
        const auto ours = row_of(found->second, row, width);
        const auto theirs = row_of(expected, row, width);
        if (std::multiset(ours.begin(), ours.end()) != std::multiset(theirs.begin(), theirs.end()))
            return false;
    }
    return true;
}

void compare_logits(const golden_record& record, const prompt_pass& pass, golden_report& report) {
    const auto width = static_cast<std::size_t>(record.vocabulary);
    std::vector<double> errors;
    for (std::size_t row = 0; row < record.input_ids.size(); ++row) {
        const double error = largest_difference(row_of(pass.logits, row, width), row_of(record.logits, row, width));
        errors.push_back(error);
        if (same_route(record, pass, row))
            report.max_error_same_route = std::max(report.max_error_same_route, error);
        else
            ++report.rows_rerouted;
    }
    report.rows = static_cast<std::int32_t>(errors.size());
    std::sort(errors.begin(), errors.end());
    report.max_abs_error = errors.back();
    report.median_row_error = errors[errors.size() / 2];
}

void compare_hidden(const golden_record& record, const prompt_pass& pass, golden_report& report) {
    for (const auto& [layer, expected] : record.hidden) {
        const auto& ours = pass.hidden[static_cast<std::size_t>(layer)];
        report.hidden_max_error =
            std::max(report.hidden_max_error, largest_difference(floats(ours).first(expected.size()), expected));
    }
}

/// The greedy continuation was appended to the prompt: row prompt - 1 + step chose greedy_ids[step].
void compare_greedy(const golden_record& record, const prompt_pass& pass, const golden_limits& limits,
                    golden_report& report) {
    const auto width = pass.logits.size() / static_cast<std::size_t>(pass.tokens);
    report.greedy_steps = static_cast<std::int32_t>(record.greedy_ids.size());
    for (std::size_t step = 0; step < record.greedy_ids.size(); ++step) {
        const auto ours = row_of(pass.logits, record.input_ids.size() - 1 + step, width);
        const auto best = static_cast<token_id>(std::max_element(ours.begin(), ours.end()) - ours.begin());
        double margin = std::numeric_limits<double>::infinity();
        if (!record.greedy_logits.empty() && width >= 2) {
            const auto theirs = row_of(record.greedy_logits, step, width);
            std::vector<float> sorted(theirs.begin(), theirs.end());
            std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
            margin = static_cast<double>(sorted[0]) - static_cast<double>(sorted[1]);
        }
        if (margin <= limits.greedy_margin_min)
            ++report.greedy_skipped;
        else if (best == record.greedy_ids[step])
            ++report.greedy_match;
        else
            report.violations.push_back("greedy step " + std::to_string(step) + " gives token " + std::to_string(best) +
                                        " instead of " + std::to_string(record.greedy_ids[step]));
    }
}

/// A record says nothing about the experts of the prediction layer, so rows are not told apart by their route.
void compare_mtp(const golden_record& record, const prompt_pass& pass, golden_report& report) {
    const auto width = static_cast<std::size_t>(record.vocabulary);
    std::vector<double> errors;
    for (std::size_t row = 0; row + 1 < record.input_ids.size(); ++row)
        errors.push_back(
            largest_difference(row_of(pass.mtp_logits, row, width), row_of(record.mtp_logits, row, width)));
    std::sort(errors.begin(), errors.end());
    report.mtp_max_error = errors.back();
    report.mtp_median_row_error = errors[errors.size() / 2];
}

void judge(const golden_limits& limits, golden_report& report) {
    const auto demand = [&](const char* what, double found, double bound) {
        if (!(found <= bound))
            report.violations.push_back(std::string(what) + " is " + in_digits(found) + ", at most " +
                                        in_digits(bound) + " allowed");
    };
    demand("largest error of rows with the same experts", report.max_error_same_route, limits.max_abs_error);
    demand("number of rows with other experts", report.rows_rerouted, limits.rows_rerouted_max);
    if (limits.median_row_error_max)
        demand("median row error", report.median_row_error, *limits.median_row_error_max);
    // Where experts may change, the worst row of the prediction layer says nothing.
    if (report.mtp_max_error && limits.rows_rerouted_max == 0)
        demand("largest error of the prediction layer", *report.mtp_max_error, limits.max_abs_error);
    else if (report.mtp_median_row_error)
        demand("median row error of the prediction layer", *report.mtp_median_row_error, limits.max_abs_error);
}

result<void> check_record(const engine& model, const golden_record& record) {
    const auto& shape = model.shape();
    const auto refuse = [](const std::string& why) {
        return fail(errc::corrupt_file, "golden.safetensors does not belong to this model: " + why);
    };
    const bool has_logits = !record.logits.empty() || !record.greedy_logits.empty() || !record.mtp_logits.empty();
    if (has_logits && record.vocabulary != shape.vocabulary)
        return refuse("logits of " + std::to_string(record.vocabulary) + " tokens");
    if (!record.hidden.empty() && record.hidden_width != shape.hidden)
        return refuse("hidden size " + std::to_string(record.hidden_width));
    if (!record.hidden.empty() && record.hidden.rbegin()->first > shape.layers)
        return refuse("hidden state of layer " + std::to_string(record.hidden.rbegin()->first));
    if (!record.routing.empty() && record.top_k != shape.moe.top_k)
        return refuse("routing of top-" + std::to_string(record.top_k));
    return {};
}

} // namespace

result<golden_report> compare_with_golden(engine& model, const golden_record& record, const golden_limits& limits) {
    if (auto fine = check_record(model, record); !fine)
        return tl::unexpected(fine.error());
    auto ids = record.input_ids;
    if (!record.greedy_ids.empty())
        ids.insert(ids.end(), record.greedy_ids.begin(), record.greedy_ids.end() - 1);
    prompt_pass_options options;
    options.hidden = !record.hidden.empty();
    options.routing = !record.routing.empty();
    options.mtp = model.has_mtp() && !record.mtp_logits.empty();
    auto pass = run_prompt(model, ids, options);
    if (!pass)
        return tl::unexpected(pass.error());
    golden_report report;
    report.absent = record.absent;
    if (!record.logits.empty())
        compare_logits(record, *pass, report);
    if (options.mtp)
        compare_mtp(record, *pass, report);
    compare_hidden(record, *pass, report);
    compare_greedy(record, *pass, limits, report);
    judge(limits, report);
    return report;
}

} // namespace moira
