#include "tools/moira/load_model.hpp"

#include "tools/moira/executable_path.hpp"
#include "tools/moira/model_lookup.hpp"
#include "tools/moira/text_table.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
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

void print_notices(const std::vector<std::string>& notices, const command_context& context) {
    if (context.json)
        return;
    for (const auto& notice : notices)
        std::fprintf(stderr, "note: %s\n", notice.c_str());
}

volatile std::sig_atomic_t interrupts = 0;

void count_interrupt(int) {
    interrupts = interrupts + 1;
    if (interrupts > 1)
        std::_Exit(exit_interrupted);
}

}  // namespace

result<model_room> load_model(const std::string& wanted, const command_context& context) {
    const auto& all = context.settings.values;
    const auto found = find_model(wanted, places_of_models(all));
    if (!found)
        return tl::unexpected(found.error());
    auto room = model_room::open(all, found->folder, plugin_folders(all.plugins.path), progress_line());
    if (room)
        print_notices(room->model->notices(), context);
    return room;
}

result<std::unique_ptr<local_runtime>> load_runtime(const std::string& wanted, const command_context& context) {
    const auto& all = context.settings.values;
    const auto found = find_model(wanted, places_of_models(all));
    if (!found)
        return tl::unexpected(found.error());
    auto runtime = local_runtime::start(all, found->folder, plugin_folders(all.plugins.path), progress_line());
    if (runtime)
        print_notices((*runtime)->notices(), context);
    return runtime;
}

std::function<bool()> watch_interrupt() {
    struct sigaction action {};
    action.sa_handler = count_interrupt;
    sigaction(SIGINT, &action, nullptr);
    return [] { return interrupts > 0; };
}

}  // namespace moira
