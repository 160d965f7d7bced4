#include "tools/moira/load_model.hpp"

#include "tools/moira/executable_path.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/text_table.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <unistd.h>

namespace moira {

namespace {

/// A line that overwrites itself, on a terminal only.
load_progress progress_line() {
    if (isatty(STDERR_FILENO) == 0)
        return {};
    static constexpr auto interval = std::chrono::milliseconds(100);
    auto last = std::chrono::steady_clock::now();
    bool shown = false;
    return [last, shown](std::uint64_t done, std::uint64_t all) mutable {
        const auto now = std::chrono::steady_clock::now();
        if (done >= all) {
            if (shown)
                std::fputs("\r\033[K", stderr);
        } else if (now - last >= interval) {
            last = now;
            shown = true;
            std::fprintf(stderr, "\rloading %s of %s", rounded_bytes(done).c_str(), rounded_bytes(all).c_str());
        }
    };
}

/// Standard error, coloured only on a terminal and without NO_COLOR. With --json people still read standard error.
log_function log_to_standard_error(const std::string& level) {
    const auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    if (std::getenv("NO_COLOR") != nullptr)
        sink->set_color_mode(spdlog::color_mode::never);
    auto logger = std::make_shared<spdlog::logger>("moira", sink);
    logger->set_level(spdlog::level::from_str(level));
    logger->set_pattern("%^%l%$: %v");
    return [logger](log_level at, const std::string& message) {
        constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err};
        logger->log(levels[static_cast<std::size_t>(at)], message);
    };
}

/// Where the wanted model and the plugins are, and how loading is shown.
result<runtime_surroundings> find_surroundings(const std::string& wanted, const command_context& context) {
    const auto& all = context.settings.values;
    const auto found = find_model(wanted, places_of_models(all));
    if (!found)
        return tl::unexpected(found.error());
    runtime_surroundings place;
    place.model = found->folder;
    place.plugin_folders = plugin_folders(all.plugins.path);
    place.progress = progress_line();
    place.log = log_to_standard_error(all.log.level);
    return place;
}

volatile std::sig_atomic_t interrupts = 0;

void count_interrupt(int) {
    interrupts = interrupts + 1;
    if (interrupts > 1)
        std::_Exit(exit_interrupted);
}

}  // namespace

result<model_room> load_model(const std::string& wanted, const command_context& context, bool mtp) {
    auto place = find_surroundings(wanted, context);
    if (!place)
        return tl::unexpected(place.error());
    place->mtp = mtp;
    return model_room::open(context.settings.values, *place);
}

result<std::unique_ptr<local_runtime>> load_runtime(const std::string& wanted, const command_context& context) {
    const auto place = find_surroundings(wanted, context);
    if (!place)
        return tl::unexpected(place.error());
    return local_runtime::start(context.settings.values, *place);
}

std::function<bool()> watch_interrupt() {
    struct sigaction action {};
    action.sa_handler = count_interrupt;
    sigaction(SIGINT, &action, nullptr);
    return [] { return interrupts > 0; };
}

}  // namespace moira
