#pragma once

#include "core/base/error.hpp"
#include "core/evaluate/perplexity.hpp"
#include "tools/moira/command_line.hpp"

#include <cstdint>
#include <filesystem>
#include <string>

namespace moira {

/// What `eval perplexity` and `eval divergence` are asked about.
struct eval_text_options {
    std::string model, file;
    // The bundled model's context; larger windows give a model more to go by and are not comparable.
    std::int32_t window = 512, stride = 512;
};

/// Adds -m, --text, --window and --stride.
void add_eval_text_options(CLI::App& command, eval_text_options& options);

/// Reads the text, turns it into ids with the tokenizer of the model's folder, as for a prompt, and cuts it into windows. Errors:
/// those of the file and the tokenizer, invalid_utf8, invalid_argument (window and stride).
result<scored_text> read_scored_text(const eval_text_options& options, const command_context& context);

/// A line that overwrites itself, on a terminal only.
void show_eval_progress(const std::string& what);
/// Removes it.
void end_eval_progress();

} // namespace moira
