#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/text_table.hpp"

namespace moira {

namespace {

/// The table of core/base/error.cpp, from which the one in ARCHITECTURE.md is made.
result<exit_code> run_errors(const command_context& context) {
    const error_table all = all_errors();
    if (context.json) {
        auto rows = nlohmann::ordered_json::array();
        for (const auto* row = all.begin; row != all.end; ++row)
            rows.push_back({{"code", row->name},
                            {"http_status", row->http_status},
                            {"retryable", row->retryable},
                            {"exit_code", static_cast<int>(exit_code_of(row->code))},
                            {"advice", row->advice}});
        return print_json(rows).map([] { return exit_done; });
    }
    text_table table({"CODE", "HTTP", "RETRY", "EXIT", "WHAT TO DO"});
    for (const auto* row = all.begin; row != all.end; ++row)
        table.add({std::string(row->name), std::to_string(row->http_status), row->retryable ? "yes" : "no",
                   std::to_string(static_cast<int>(exit_code_of(row->code))), std::string(row->advice)});
    return print_text(table.print(context.colour)).map([] { return exit_done; });
}

} // namespace

void add_errors_command(command_line& line) {
    line.add(line.root(), "errors", "every error code: HTTP status, whether a retry can help, what to do", &run_errors);
}

} // namespace moira
