#include "tools/moira/answer_printer.hpp"
#include "tools/moira/chat_session.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/run_verdict.hpp"
#include "tools/moira/sampling_options.hpp"
#include "tools/moira/terminal_input.hpp"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace moira {

namespace {

struct chat_options {
    std::string model, system;
    generation_input input;
};

constexpr const char* help_text = "/reset   forget the conversation\n"
                                  "/quit    leave; so does Ctrl-D\n"
                                  "/help    this\n"
                                  "//...    say something that begins with a slash\n"
                                  "Ctrl-C   stop an answer and keep what was said; at the prompt: leave\n";

/// Where the talk happens. Answers go to standard output and all else to standard error, so that a pipe gets answers
/// only.
class chat_screen {
public:
    explicit chat_screen(bool json)
        : json_(json), typed_(::isatty(STDIN_FILENO) == 1),
          colour_(::isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr) {}

    /// A person types here.
    bool typed() const noexcept { return typed_; }
    bool json() const noexcept { return json_; }

    void prompt() const {
        if (typed_)
            std::fputs(colour_ ? "\033[1m>>> \033[0m" : ">>> ", stderr);
    }
    void note(const std::string& text) const {
        std::fprintf(stderr, colour_ ? "\033[2m%s\033[0m\n" : "%s\n", text.c_str());
    }

private:
    bool json_, typed_, colour_;
};

nlohmann::ordered_json turn_json(const std::string& said, const chat_session::turn& turn) {
    const auto& outcome = turn.outcome;
    return {{"user", said},
            {"text", outcome.text},
            {"finish_reason", finish_reason_name(outcome.reason)},
            {"prompt_tokens", outcome.prompt_tokens},
            {"completion_tokens", outcome.completion_tokens},
            {"cached_tokens", outcome.cached_tokens},
            {"dropped_turns", turn.dropped_turns},
            {"logits_hash", outcome.logits_hash}};
}

/// The talk itself: reads lines and says them until one of the two has enough.
class chat_loop {
public:
    chat_loop(local_runtime& runtime, const chat_options& options, const command_context& context,
              interrupt_watch interrupts)
        : runtime_(runtime), interrupts_(interrupts), screen_(context.json), input_(STDIN_FILENO, interrupts),
          session_(model_of(context), options.input, options.system) {}

    result<exit_code> run() {
        if (screen_.typed())
            screen_.note("talking to " + runtime_.identity().model + ", context of " +
                         std::to_string(runtime_.identity().context_max) + " tokens; /help explains, Ctrl-D leaves");
        std::string line;
        while (true) {
            screen_.prompt();
            const auto read = input_.read(line);
            if (!read)
                return tl::unexpected(read.error());
            if (*read != line_input::outcome::line) {
                if (screen_.typed())
                    std::fputc('\n', stderr);
                return end(*read == line_input::outcome::interrupted ? exit_interrupted : exit_done);
            }
            const auto command = parse_chat_line(line);
            if (command.what == chat_command::kind::quit)
                return end(exit_done);
            if (auto done = obey(command); !done)
                return tl::unexpected(done.error());
        }
    }

private:
    chat_session::model model_of(const command_context& context) {
        chat_session::model model;
        model.context_max = runtime_.identity().context_max;
        model.answer_tokens_max = context.settings.values.sampling.max_tokens;
        model.count_tokens = [this](const generation_input& input) { return runtime_.count_prompt_tokens(input); };
        model.answer = [this](generation_input input) {
            local_runtime::event_function show;
            if (!screen_.json())
                show = [this](const output_event& event) { printer_.show(event); };
            return runtime_.run(std::move(input), show, [this] { return interrupts_.count() != 0 || printer_.lost(); });
        };
        return model;
    }

    result<void> obey(const chat_command& command) {
        switch (command.what) {
        case chat_command::kind::text:
            return say(command.text);
        case chat_command::kind::help:
            std::fputs(help_text, stderr);
            break;
        case chat_command::kind::reset:
            session_.reset();
            screen_.note("the conversation is forgotten");
            break;
        case chat_command::kind::unknown:
            screen_.note("no command " + command.text + "; /help shows all, //... says a text with a slash");
            break;
        default:
            break;
        }
        return {};
    }

    result<void> say(const std::string& text) {
        const auto turn = session_.say(text);
        if (!turn)
            return refuse(turn.error());
        if (screen_.json()) {
            turns_.push_back(turn_json(text, *turn));
        } else if (printer_.lost() || std::fputc('\n', stdout) == EOF || std::fflush(stdout) != 0) {
            return fail(errc::io_error, "standard output cannot be written: is the pipe closed or the disk full?");
        }
        answered_ = true;
        explain(*turn);
        // One Ctrl-C has done its work; a second one during the answer means the prompt too, and a script has no
        // prompt.
        if (interrupts_.count() == 1 && screen_.typed())
            interrupts_.reset();
        return {};
    }

    /// Whoever types may try again; a script must learn that its line was not answered.
    result<void> refuse(const error& why) {
        if (!screen_.typed() || runtime_.failed())
            return tl::unexpected(why);
        screen_.note(why.message + " (nothing was added to the conversation)");
        return {};
    }

    void explain(const chat_session::turn& turn) const {
        const auto& outcome = turn.outcome;
        if (turn.dropped_turns != 0)
            screen_.note("the oldest " + std::to_string(turn.dropped_turns) +
                         (turn.dropped_turns == 1 ? " turn" : " turns") + " left the context of " +
                         std::to_string(runtime_.identity().context_max) + " tokens");
        if (outcome.reason == finish_reason::cancelled)
            screen_.note("stopped; what was said is kept");
        else if (outcome.reason == finish_reason::length &&
                 outcome.prompt_tokens + outcome.completion_tokens >= runtime_.identity().context_max)
            screen_.note("cut: the context is full");
        else if (outcome.reason == finish_reason::length)
            screen_.note("cut after " + std::to_string(outcome.completion_tokens) + " tokens; -n allows more");
    }

    result<exit_code> end(exit_code code) {
        const auto statistics = answered_ ? runtime_.statistics() : std::nullopt;
        const auto said = statistics ? verdict(verdict_facts_of(*statistics, 0)) : std::string();
        if (!screen_.json() && !said.empty())
            screen_.note("verdict: " + said);
        if (!screen_.json())
            return code;
        nlohmann::ordered_json value{{"turns", turns_}, {"interrupted", code == exit_interrupted}};
        value["verdict"] = said.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(said);
        return print_json(value).map([code] { return code; });
    }

    local_runtime& runtime_;
    interrupt_watch interrupts_;
    chat_screen screen_;
    line_input input_;
    answer_printer printer_;
    chat_session session_;
    bool answered_ = false; // at least one turn
    nlohmann::ordered_json turns_ = nlohmann::ordered_json::array();
};

result<exit_code> run_chat(const chat_options& options, command_context& context) {
    auto runtime = load_runtime(options.model, context);
    if (!runtime)
        return tl::unexpected(runtime.error());
    const auto interrupts = interrupt_watch::start();
    if (!interrupts)
        return tl::unexpected(interrupts.error());
    return chat_loop(**runtime, options, context, *interrupts).run();
}

} // namespace

void add_chat_command(command_line& line) {
    auto options = std::make_shared<chat_options>();
    CLI::App& command = line.add(line.root(), "chat", "talk with a model in the terminal; it keeps the conversation",
                                 [options](command_context& context) { return run_chat(*options, context); });
    add_model_option(command, options->model);
    command.add_option("--system", options->system, "a first message that never leaves the context")->type_name("TEXT");
    add_sampling_options(command, options->input);
    command.footer(
        "Where standard input is no terminal, each of its lines is a turn and the first refused one ends it.\n"
        "When the context is full the oldest turns leave it, with a note. Exit code 130: left by Ctrl-C.");
}

} // namespace moira
