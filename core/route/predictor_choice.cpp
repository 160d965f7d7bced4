#include "core/route/predictor_choice.hpp"

#include <array>

namespace moira {
namespace {

enum class file_rule { none, optional, required };

struct choice_entry {
    std::string_view name;
    route_source source;
    file_rule file;
};

constexpr std::array entries{
    choice_entry{"gate", route_source::early, file_rule::none},
    choice_entry{"heads", route_source::heads, file_rule::required},
    choice_entry{"history", route_source::history, file_rule::optional},
    choice_entry{"previous", route_source::previous, file_rule::none},
    choice_entry{"prompt", route_source::prompt, file_rule::none},
    choice_entry{"drafted", route_source::drafted, file_rule::none},
};

constexpr std::string_view spelling = "gate, heads:FILE, history, history:FILE, previous, prompt or drafted";

} // namespace

result<predictor_choice> parse_predictor_choice(std::string_view text) {
    if (text.empty())
        return predictor_choice{};
    const auto shown = "found \"" + std::string(text.substr(0, 128)) + "\", expected ";
    const auto colon = text.find(':');
    const auto name = text.substr(0, colon);
    const auto file = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
    for (const auto& entry : entries) {
        if (entry.name != name)
            continue;
        if (entry.file == file_rule::none && colon != std::string_view::npos)
            return fail(errc::invalid_config, shown + std::string(name) + " without a file");
        if (file.empty() && (entry.file == file_rule::required || colon != std::string_view::npos))
            return fail(errc::invalid_config, shown + std::string(name) + ":FILE of `moira predictor train`");
        return predictor_choice{entry.source, std::string(file)};
    }
    return fail(errc::invalid_config, shown + std::string(spelling));
}

} // namespace moira
