#include "core/text/text_stream.hpp"

#include <algorithm>

namespace moira {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD"; // U+FFFD

struct scan_result {
    std::size_t bytes = 0; // of the character, or of the longest beginning of one (at least 1)
    bool valid = false;    // the bytes are a whole character
    bool cut = false;      // the text ended inside a character that may still become whole
};

struct lead_rule {
    std::size_t bytes = 0; // of the whole character, 0: cannot begin one
    unsigned char second_min = 0x80;
    unsigned char second_max = 0xBF;
};

/// Table 3-7 of the Unicode standard: what may follow a lead byte.
lead_rule rule_of(unsigned char lead) {
    if (lead < 0x80)
        return {1};
    if (lead >= 0xC2 && lead <= 0xDF)
        return {2};
    if (lead >= 0xE0 && lead <= 0xEF)
        return {3, static_cast<unsigned char>(lead == 0xE0 ? 0xA0 : 0x80),
                static_cast<unsigned char>(lead == 0xED ? 0x9F : 0xBF)};
    if (lead >= 0xF0 && lead <= 0xF4)
        return {4, static_cast<unsigned char>(lead == 0xF0 ? 0x90 : 0x80),
                static_cast<unsigned char>(lead == 0xF4 ? 0x8F : 0xBF)};
    return {0};
}

/// Looks at the beginning of not empty `text`.
scan_result scan_character(std::string_view text) {
    const lead_rule rule = rule_of(static_cast<unsigned char>(text[0]));
    if (rule.bytes == 0)
        return {1, false, false};
    for (std::size_t i = 1; i < rule.bytes; ++i) {
        if (i == text.size())
            return {i, false, true};
        const auto byte = static_cast<unsigned char>(text[i]);
        const unsigned char low = i == 1 ? rule.second_min : 0x80;
        const unsigned char high = i == 1 ? rule.second_max : 0xBF;
        if (byte < low || byte > high)
            return {i, false, false};
    }
    return {rule.bytes, true, false};
}

} // namespace

bool is_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        const scan_result next = scan_character(text);
        if (!next.valid)
            return false;
        text.remove_prefix(next.bytes);
    }
    return true;
}

std::string utf8_stream::push(std::string_view bytes) {
    if (bytes.empty())
        return {};
    std::string joined;
    if (!held_.empty()) {
        joined = held_;
        joined += bytes;
        bytes = joined;
        held_.clear();
    }
    std::string text;
    text.reserve(bytes.size());
    while (!bytes.empty()) {
        const scan_result next = scan_character(bytes);
        if (next.cut) {
            held_ = bytes;
            break;
        }
        text += next.valid ? bytes.substr(0, next.bytes) : replacement;
        bytes.remove_prefix(next.bytes);
    }
    return text;
}

std::string utf8_stream::finish() {
    const bool incomplete = !held_.empty();
    held_.clear();
    return incomplete ? std::string(replacement) : std::string();
}

stop_matcher::stop_matcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
    // Longest first: of matches that begin together it wins.
    std::stable_sort(stops_.begin(), stops_.end(),
                     [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
}

stop_matcher::output stop_matcher::push(std::string_view text) {
    if (stops_.empty())
        return {std::string(text), false};
    std::string all = std::move(held_);
    held_.clear();
    all += text;
    const std::string_view whole = all;
    for (std::size_t at = 0; at < whole.size(); ++at) {
        const std::string_view rest = whole.substr(at);
        bool may_become_stop = false;
        for (const std::string& stop : stops_) {
            const std::size_t shared = std::min(rest.size(), stop.size());
            if (rest.substr(0, shared) != std::string_view(stop).substr(0, shared))
                continue;
            if (shared == stop.size() && !stop.empty())
                return {all.substr(0, at), true};
            may_become_stop = true;
        }
        if (may_become_stop) {
            held_ = rest;
            return {all.substr(0, at), false};
        }
    }
    return {std::move(all), false};
}

std::string stop_matcher::finish() {
    std::string rest = std::move(held_);
    held_.clear();
    // While a longer stop was still possible, a shorter one that begins later may have become complete.
    std::size_t end = rest.size();
    for (const std::string& stop : stops_)
        end = std::min(end, rest.find(stop));
    rest.resize(end);
    return rest;
}

} // namespace moira
