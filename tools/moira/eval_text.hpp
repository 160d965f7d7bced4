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
    std::int32_t window = 0, stride = 0; ///< 0: what eval_windows makes of them
};

/// The usual window for published figures of small models, and the bundled model's context.
inline constexpr std::int32_t eval_window_default = 512;

/// Adds -m, --text, --window and --stride.
void add_eval_text_options(CLI::App& command, eval_text_options& options);

/// Reads the text and turns it into ids with the tokenizer of the model's folder, as for a prompt. No windows yet.
/// Errors: those of the file and the tokenizer, invalid_utf8, invalid_argument (a stride longer than the window, fewer
/// than two tokens).
result<scored_text> read_scored_text(const eval_text_options& options, const command_context& context);

/// Cuts the text into windows of what was asked for: by default eval_window_default or `context_max`, if that is less,
/// and windows that do not overlap. `options` then says which. Errors: prompt_too_long (a window beyond `context_max`).
result<void> cut_into_windows(scored_text& text, eval_text_options& options, std::int32_t context_max);

/// A line that overwrites itself, on a terminal only.
void show_eval_progress(const std::string& what);
/// Removes it.
void end_eval_progress();

} // namespace moira
