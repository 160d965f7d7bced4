#pragma once

#include <string_view>

namespace CLI {
class App;
}

namespace moira {

class command_line;

// One function per command, in the file of the command's name.
void add_run_command(command_line& line);
void add_chat_command(command_line& line);
void add_serve_command(command_line& line);
void add_logits_command(command_line& line);
void add_bench_command(command_line& line);
void add_eval_command(command_line& line);
void add_synth_command(command_line& line);
void add_trace_command(command_line& line);
void add_pack_command(command_line& line);
void add_predictor_command(command_line& line);
void add_config_command(command_line& line);
void add_list_command(command_line& line);
void add_inspect_command(command_line& line);
void add_plan_command(command_line& line);
void add_tokenize_command(command_line& line);
void add_detokenize_command(command_line& line);
void add_plugins_command(command_line& line);
void add_errors_command(command_line& line);
void add_completion_command(command_line& line);

// Commands below another one.
void add_bench_serve_command(command_line& line, CLI::App& bench);
void add_eval_divergence_command(command_line& line, CLI::App& eval);
void add_eval_perplexity_command(command_line& line, CLI::App& eval);
void add_eval_tasks_command(command_line& line, CLI::App& eval);
void add_trace_record_command(command_line& line, CLI::App& trace);
void add_trace_replay_command(command_line& line, CLI::App& trace);
void add_trace_show_command(command_line& line, CLI::App& trace);
void add_trace_synth_command(command_line& line, CLI::App& trace);

/// Every command, in the order in which `moira --help` shows them. A new command is a line here and a file.
struct command_entry {
    std::string_view name;
    void (*add)(command_line& line);
};

inline constexpr command_entry command_entries[] = {
    {"run", &add_run_command},           {"chat", &add_chat_command},             {"serve", &add_serve_command},
    {"bench", &add_bench_command},       {"synth", &add_synth_command},           {"pack", &add_pack_command},
    {"logits", &add_logits_command},     {"eval", &add_eval_command},             {"trace", &add_trace_command},
    {"predictor", &add_predictor_command},
    {"plan", &add_plan_command},         {"list", &add_list_command},             {"inspect", &add_inspect_command},
    {"config", &add_config_command},
    {"tokenize", &add_tokenize_command}, {"detokenize", &add_detokenize_command}, {"plugins", &add_plugins_command},
    {"errors", &add_errors_command},     {"completion", &add_completion_command},
};

} // namespace moira
