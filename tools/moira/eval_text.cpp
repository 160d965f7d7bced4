#include "tools/moira/eval_text.hpp"

#include "tools/moira/input_text.hpp"
#include "tools/moira/model_lookup.hpp"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace moira {

namespace {

/// Ids as for a prompt, without what the tokenizer adds behind a text: that is no part of it. Bytes beside each.
result<scored_text> encode_text(const tokenizer& words, const std::string& text) {
    scored_text made;
    auto ids = words.encode(text, tokenizer::special::add);
    if (!ids)
        return tl::unexpected(ids.error());
    const auto bare = words.encode(text, tokenizer::special::skip);
    if (!bare)
        return tl::unexpected(bare.error());
    const auto begin = std::search(ids->begin(), ids->end(), bare->begin(), bare->end());
    const auto added = static_cast<std::size_t>(begin - ids->begin());
    ids->resize(std::min(ids->size(), added + bare->size()));
    made.ids = std::move(*ids);
    made.bytes.assign(made.ids.size(), 0);
    for (std::size_t token = added; token < made.ids.size(); ++token)
        made.bytes[token] = static_cast<std::uint32_t>(words.token_bytes(made.ids[token], true).size());
    return made;
}

} // namespace

void add_eval_text_options(CLI::App& command, eval_text_options& options) {
    constexpr int tokens_max = 1 << 20; // more than any context that is served
    add_model_option(command, options.model);
    command.add_option("--text", options.file, "the text, UTF-8; - for standard input")->required()->type_name("FILE");
    command
        .add_option("--window", options.window,
                    "tokens that the model sees at once; default: 512, or its context if that is less")
        ->check(CLI::Range(2, tokens_max))
        ->type_name("TOKENS");
    command
        .add_option("--stride", options.stride,
                    "tokens from one window to the next, at most the window; default: the window")
        ->check(CLI::Range(1, tokens_max))
        ->type_name("TOKENS");
}

result<scored_text> read_scored_text(const eval_text_options& options, const command_context& context) {
    // Before anything is loaded: this is wrong for every text and model.
    if (options.window > 0 && options.stride > options.window)
        return fail(errc::invalid_argument, "--stride " + std::to_string(options.stride) + " is more than --window " +
                                                std::to_string(options.window) + ": tokens between would be left out");
    const auto words = find_tokenizer(options.model, context.settings.values);
    if (!words)
        return tl::unexpected(words.error());
    const auto text = read_input_text(options.file);
    if (!text)
        return tl::unexpected(text.error());
    auto made = encode_text(*words, *text);
    if (!made)
        return fail(made.error().code, options.file + ": " + made.error().message);
    if (const auto possible = cut_windows(made->ids.size(), eval_window_default, 1); !possible)
        return fail(possible.error().code, options.file + ": " + possible.error().message);
    return made;
}

result<void> cut_into_windows(scored_text& text, eval_text_options& options, std::int32_t context_max) {
    if (options.window > context_max)
        return fail(errc::prompt_too_long, "--window " + std::to_string(options.window) +
                                               " is more than the context of " + std::to_string(context_max));
    if (options.window == 0)
        options.window = std::min(eval_window_default, context_max);
    if (options.stride == 0)
        options.stride = options.window;
    auto windows = cut_windows(text.ids.size(), options.window, options.stride);
    if (!windows)
        return tl::unexpected(windows.error());
    text.windows = std::move(*windows);
    return {};
}

void show_eval_progress(const std::string& what) {
    if (::isatty(STDERR_FILENO) == 1)
        std::fprintf(stderr, "\r\033[K%s", what.c_str());
}

void end_eval_progress() {
    show_eval_progress("");
}

} // namespace moira
