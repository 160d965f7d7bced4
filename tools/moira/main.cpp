#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"

#include <csignal>

int main(int argument_count, char** arguments) {
    // A reader that goes away ends a write with an error, which says more than a signal.
    std::signal(SIGPIPE, SIG_IGN);
    moira::command_line line;
    for (const moira::command_entry& entry : moira::command_entries)
        entry.add(line);
    return line.run(argument_count, arguments);
}
