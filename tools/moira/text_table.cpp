#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>

namespace moira {

namespace {

std::size_t characters(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; // not a continuation byte of UTF-8
    }));
}

} // namespace

text_table::text_table(std::vector<std::string> headings) {
    rows_.push_back(std::move(headings));
}

void text_table::add(std::vector<std::string> cells) {
    cells.resize(rows_.front().size());
    rows_.push_back(std::move(cells));
}

std::string text_table::print(bool colour) const {
    std::vector<std::size_t> widths(rows_.front().size(), 0);
    for (const auto& row : rows_)
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], characters(row[i]));
    std::string text;
    for (const auto& row : rows_) {
        const bool dim = colour && &row == &rows_.front();
        text += dim ? "\x1b[2m" : "";
        for (std::size_t i = 0; i < row.size(); ++i) {
            text += row[i];
            if (i + 1 < row.size())
                text.append(widths[i] - characters(row[i]) + 2, ' ');
        }
        while (!text.empty() && text.back() == ' ')
            text.pop_back();
        text += dim ? "\x1b[0m\n" : "\n";
    }
    return text;
}

std::string rounded_bytes(std::uint64_t bytes) {
    constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = static_cast<double>(bytes);
    std::size_t step = 0;
    while (value >= 1024.0 && step + 1 < units.size()) {
        value /= 1024.0;
        ++step;
    }
    std::array<char, 32> buffer{};
    std::snprintf(buffer.data(), buffer.size(), step == 0 || value >= 100.0 ? "%.0f %s" : "%.1f %s", value,
                  units[step]);
    return buffer.data();
}

} // namespace moira
