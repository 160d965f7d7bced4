#include "tools/moira/sampling_options.hpp"

namespace moira {

void add_sampling_options(CLI::App& command, generation_input& input) {
    command.add_option("-n,--max-tokens", input.max_tokens, "the most tokens to generate")->type_name("N");
    command.add_option("--temperature", input.temperature, "0: greedy")->type_name("T");
    command.add_option("--top-p", input.top_p, "keep the likeliest tokens that together have this probability")
        ->type_name("P");
    command.add_option("--top-k", input.top_k, "keep the K likeliest tokens; 0: all")->type_name("K");
    command.add_option("--min-p", input.min_p, "keep tokens of at least this share of the best one's probability")
        ->type_name("P");
    command.add_option("--repetition-penalty", input.repetition_penalty, "1: none")->type_name("R");
    command.add_option("--seed", input.seed, "the same seed gives the same text")->type_name("S");
    command.add_option("--stop", input.stop, "end before this text; may be given several times")->type_name("TEXT");
    command.add_flag("--ignore-eos", input.ignore_eos, "go on after the model's end token");
}

} // namespace moira
