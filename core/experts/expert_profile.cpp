#include "core/experts/expert_profile.hpp"

#include "core/base/read_only_file.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <optional>
#include <system_error>
#include <unistd.h>

namespace moira {
namespace {

constexpr std::string_view first_line = "moira-expert-profile 1";

/// Experts of a whole model, as expert_store allows; a line has at most 32 bytes ("524287 524287 0.123456").
constexpr std::int64_t entries_max = 1 << 19;
constexpr std::uint64_t file_bytes_max = entries_max * 32;

/// Takes text apart line by line, and a line word by word.
class profile_lines {
public:
    profile_lines(std::string_view text, std::string_view name) : rest_(text), name_(name) {}

    bool next() {
        if (rest_.empty())
            return false;
        const auto end = std::min(rest_.find('\n'), rest_.size());
        line_ = rest_.substr(0, end);
        rest_.remove_prefix(std::min(end + 1, rest_.size()));
        ++number_;
        return true;
    }

    std::string_view line() const noexcept { return line_; }

    /// The line begins with these characters, which are taken off.
    bool take(std::string_view prefix) {
        if (!line_.starts_with(prefix))
            return false;
        line_.remove_prefix(prefix.size());
        return true;
    }

    template <class Number>
    std::optional<Number> number() {
        Number value{};
        const auto [end, problem] = std::from_chars(line_.data(), line_.data() + line_.size(), value);
        if (problem != std::errc())
            return std::nullopt;
        line_.remove_prefix(static_cast<std::size_t>(end - line_.data()));
        return value;
    }

    tl::unexpected<error> wrong(std::string_view expected) const {
        return fail(errc::corrupt_file, std::string(name_) + ":" + std::to_string(number_) + ": expected " +
                                            std::string(expected) + "; delete the file to begin a new profile");
    }

private:
    std::string_view rest_, line_, name_;
    std::size_t number_ = 0;
};

result<void> read_rates(profile_lines& lines, expert_profile& profile) {
    std::int64_t before = -1;
    while (lines.next()) {
        const auto layer = lines.number<std::int32_t>();
        const bool spaced = lines.take(" ");
        const auto expert = lines.number<std::int32_t>();
        const bool spaced_again = lines.take(" ");
        const auto rate = lines.number<float>();
        if (!layer || !spaced || !expert || !spaced_again || !rate || !lines.line().empty())
            return lines.wrong("'layer expert rate'");
        if (*layer < 0 || *layer >= profile.layers || *expert < 0 || *expert >= profile.experts)
            return lines.wrong("a layer below " + std::to_string(profile.layers) + " and an expert below " +
                               std::to_string(profile.experts));
        if (!(*rate > 0 && *rate <= 1))
            return lines.wrong("a rate above 0, at most 1");
        const std::int64_t place = std::int64_t{*layer} * profile.experts + *expert;
        if (place <= before)
            return lines.wrong("experts in ascending order");
        before = place;
        profile.use_rates[static_cast<std::size_t>(place)] = *rate;
    }
    return {};
}

} // namespace

result<expert_profile> parse_expert_profile(std::string_view text, std::string_view name) {
    profile_lines lines(text, name);
    if (!lines.next() || lines.line() != first_line)
        return lines.wrong("'" + std::string(first_line) + "'");
    expert_profile profile;
    if (!lines.next() || !lines.take("model ") || lines.line().empty() ||
        lines.line().size() > expert_profile::model_bytes_max)
        return lines.wrong("'model' and a name of at most " + std::to_string(expert_profile::model_bytes_max) +
                           " bytes");
    profile.model = lines.line();
    if (!lines.next() || !lines.take("layers "))
        return lines.wrong("'layers L experts E'");
    const auto layers = lines.number<std::int32_t>();
    const bool named = lines.take(" experts ");
    const auto experts = lines.number<std::int32_t>();
    if (!layers || !named || !experts || !lines.line().empty())
        return lines.wrong("'layers L experts E'");
    if (*layers < 1 || *experts < 1 || std::int64_t{*layers} * *experts > entries_max)
        return lines.wrong("1 to " + std::to_string(entries_max) + " experts in all");
    profile.layers = *layers;
    profile.experts = *experts;
    profile.use_rates.resize(static_cast<std::size_t>(*layers) * static_cast<std::size_t>(*experts));
    if (auto done = read_rates(lines, profile); !done)
        return tl::unexpected(done.error());
    return profile;
}

std::string print_expert_profile(const expert_profile& profile) {
    std::string text = std::string(first_line) + "\nmodel " + profile.model + "\nlayers " +
                       std::to_string(profile.layers) + " experts " + std::to_string(profile.experts) + "\n";
    for (std::size_t place = 0; place < profile.use_rates.size(); ++place) {
        std::array<char, 64> line{};
        const auto experts = static_cast<std::size_t>(profile.experts);
        const int length = std::snprintf(line.data(), line.size(), "%zu %zu %.6f\n", place / experts, place % experts,
                                         static_cast<double>(std::min(profile.use_rates[place], 1.0F)));
        if (profile.use_rates[place] >= 5e-7F) // what six digits do not round to 0
            text.append(line.data(), static_cast<std::size_t>(length));
    }
    return text;
}

result<expert_profile> read_expert_profile(const std::filesystem::path& path) {
    const auto text = read_text_file(path, file_bytes_max);
    if (!text)
        return tl::unexpected(text.error());
    return parse_expert_profile(*text, path.string());
}

result<void> write_expert_profile(const expert_profile& profile, const std::filesystem::path& path) {
    // The process id keeps two writers of one profile apart.
    const std::filesystem::path part = path.string() + ".part" + std::to_string(::getpid());
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    out << print_expert_profile(profile);
    out.close();
    std::error_code problem;
    if (out)
        std::filesystem::rename(part, path, problem);
    if (out && !problem)
        return {};
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    return fail(errc::io_error, "the profile of experts could not be written to " + path.string() +
                                    (problem ? ": " + problem.message() : ": no such folder, no right or no space"));
}

} // namespace moira
