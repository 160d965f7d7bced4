#include "core/plan/plan_sentences.hpp"

#include <array>
#include <cmath>
#include <cstdio>

namespace moira {

namespace {

constexpr int answer_words = 200;
constexpr double tokens_per_word = 1.3;

std::string printed(const char* format, double value) {
    std::array<char, 48> text{};
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
}

/// Two digits: 0.83, 8.3, 83, 830.
std::string two_digits(double value) {
    if (value >= 9.95) {
        const double unit = std::pow(10.0, std::floor(std::log10(value)) - 1);
        return printed("%.0f", std::round(value / unit) * unit);
    }
    return printed(value >= 0.095 ? "%.1f" : "%.2g", value);
}

std::string counted(double count, const char* unit) {
    auto number = two_digits(count);
    if (number.ends_with(".0"))
        number.resize(number.size() - 2);
    return number + " " + unit + (number == "1" ? "" : "s");
}

} // namespace

std::string bytes_text(std::uint64_t bytes) {
    constexpr std::array<const char*, 5> units{"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1023.5 && unit + 1 < units.size()) {
        value /= 1024;
        ++unit;
    }
    return printed(value < 9.95 && unit > 0 ? "%.1f" : "%.0f", value) + " " + units[unit];
}

std::string duration_text(double seconds) {
    if (!(seconds < 1e9))
        return "ages";
    if (seconds < 0.95)
        return "less than a second";
    if (seconds < 90)
        return counted(seconds < 9.5 ? std::round(seconds) : seconds, "second");
    if (seconds < 5400)
        return counted(std::round(seconds / 60), "minute");
    return counted(seconds / 3600, "hour");
}

std::string speed_text(double tok_s) {
    return two_digits(tok_s);
}

double answer_seconds(double tok_s, int words) {
    return words * tokens_per_word / tok_s;
}

std::string plan_sentence(const model_plan& plan) {
    if (!plan.budget.placed || (!plan.budget.fits && !plan.speed)) {
        std::string text = "does not run";
        for (std::size_t i = 0; i < plan.budget.reasons.size(); ++i)
            text += (i == 0 ? ": " : "; ") + plan.budget.reasons[i];
        return text + ".";
    }
    if (!plan.speed)
        return "it fits, but how fast the disk is nobody knows: say it with --disk-gb-s.";
    const double seconds = answer_seconds(plan.speed->tok_s, answer_words);
    std::string text = speed_text(plan.speed->tok_s) + " tokens/s";
    if (plan.speed_high && plan.speed_high->tok_s > 1.05 * plan.speed->tok_s)
        text += " (up to " + speed_text(plan.speed_high->tok_s) + " where few experts do most of the work)";
    const auto duration = duration_text(seconds);
    text += ": a " + std::to_string(answer_words) + "-word answer takes " + (seconds < 0.95 ? "" : "about ") + duration;
    if (plan.more)
        text += "; " + bytes_text(plan.more->bytes) + " more memory would make it " +
                duration_text(answer_seconds(plan.more->tok_s, answer_words));
    else if (plan.budget.slots == plan.budget.slots_all && plan.budget.slots_all > 0)
        text += "; all experts are in memory";
    if (!plan.budget.fits)
        text += "; but " + plan.budget.reasons.front();
    return text + ".";
}

} // namespace moira
