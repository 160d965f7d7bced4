#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"

namespace moira {

void add_trace_command(command_line& line) {
    CLI::App& group = line.add(line.root(), "trace", "record which experts a model chooses, and play recordings", {});
    add_trace_record_command(line, group);
    add_trace_replay_command(line, group);
    add_trace_show_command(line, group);
    add_trace_synth_command(line, group);
}

} // namespace moira
