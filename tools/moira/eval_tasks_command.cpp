#include "core/base/read_only_file.hpp"
#include "core/evaluate/confidence_interval.hpp"
#include "core/evaluate/task_list.hpp"
#include "tools/moira/command_line.hpp"
#include "tools/moira/commands.hpp"
#include "tools/moira/eval_text.hpp"
#include "tools/moira/load_model.hpp"
#include "tools/moira/text_table.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>

namespace moira {

namespace {

struct tasks_options {
    std::string model, file;
    std::int32_t max_tokens = 0;
};

generation_input question_of(const evaluation_task& task, const tasks_options& options) {
    generation_input input;
    input.messages = std::vector<chat_message>{{"user", task.prompt}};
    input.temperature = 0;
    input.repetition_penalty = 1;
    if (options.max_tokens > 0)
        input.max_tokens = options.max_tokens;
    return input;
}

/// What came back, filled by the runtime's threads. Outlives the requests: their functions hold it.
struct answer_board {
    std::mutex lock;
    std::condition_variable changed;
    task_tally tally;
    std::size_t open = 0;
    std::optional<error> failure;

    void put(const evaluation_task& task, const std::string& name, const generation_result& outcome) {
        const std::lock_guard held(lock);
        --open;
        if (outcome.failure && !failure)
            failure =
                error{outcome.failure->code, name + ":" + std::to_string(task.line) + ": " + outcome.failure->message};
        // What Ctrl-C cut short is no answer.
        if (!outcome.failure && outcome.reason != finish_reason::cancelled)
            tally.add(task, outcome.text, outcome.completion_tokens);
        changed.notify_all();
    }
};

struct tasks_outcome {
    task_tally tally;
    bool interrupted = false;
};

/// Keeps `in_flight_max` questions open, which the runtime answers together; an answer does not depend on its
/// neighbours.
class task_runner {
public:
    task_runner(local_runtime& runtime, const tasks_options& options, std::size_t in_flight_max)
        : runtime_(runtime), options_(options), in_flight_max_(in_flight_max) {}

    /// Errors: those with which a question was refused or failed, with the task's line.
    result<tasks_outcome> run(const std::vector<evaluation_task>& tasks, const std::function<bool()>& interrupted) {
        std::size_t next = 0;
        bool stopped = false, cancelled = false;
        std::unique_lock held(board_->lock);
        while (board_->open > 0 || (!stopped && next < tasks.size())) {
            while (!stopped && next < tasks.size() && board_->open < in_flight_max_)
                submit(tasks[next++], held);
            board_->changed.wait_for(held, look_interval);
            show(tasks.size());
            cancelled = cancelled || interrupted();
            if (!stopped && (cancelled || board_->failure)) {
                stopped = true;
                cancel_all(held);
            }
        }
        if (board_->failure && !cancelled)
            return tl::unexpected(*board_->failure);
        return tasks_outcome{board_->tally, cancelled && board_->tally.all.items < tasks.size()};
    }

private:
    static constexpr auto look_interval = std::chrono::milliseconds(50);

    void submit(const evaluation_task& task, std::unique_lock<std::mutex>& held) {
        ++board_->open;
        held.unlock(); // a refusal may come back on this thread
        numbers_.push_back(runtime_.submit(question_of(task, options_),
                                           [board = board_, task, name = options_.file](const output_event& event) {
                                               if (event.finished)
                                                   board->put(task, name, *event.finished);
                                           }));
        held.lock();
    }

    void cancel_all(std::unique_lock<std::mutex>& held) {
        held.unlock();
        for (const auto number : numbers_)
            runtime_.cancel(number);
        held.lock();
    }

    void show(std::size_t all) const {
        const auto& so_far = board_->tally;
        show_eval_progress(std::to_string(so_far.all.items) + " of " + std::to_string(all) + " answered, " +
                           std::to_string(so_far.all.correct) + " correct");
    }

    local_runtime& runtime_;
    const tasks_options& options_;
    std::size_t in_flight_max_;
    std::shared_ptr<answer_board> board_ = std::make_shared<answer_board>();
    std::vector<std::uint64_t> numbers_;
};

nlohmann::ordered_json tally_json(const tasks_outcome& found, const std::string& numerics_id) {
    const auto& tally = found.tally;
    const auto range = wilson_interval(tally.all.correct, tally.all.items);
    auto kinds = nlohmann::ordered_json::object();
    for (const auto& [kind, count] : tally.kinds)
        kinds[kind] = {{"items", count.items}, {"correct", count.correct}};
    return {{"items", tally.all.items},
            {"correct", tally.all.correct},
            {"accuracy", tally.accuracy()},
            {"ci95", {range.low, range.high}},
            {"tokens_per_answer", tally.tokens_per_answer()},
            {"kinds", kinds},
            {"interrupted", found.interrupted},
            {"numerics_id", numerics_id}};
}

std::string share_text(const task_tally::count& count) {
    const auto range = wilson_interval(count.correct, count.items);
    const double share = count.items == 0 ? 0 : static_cast<double>(count.correct) / static_cast<double>(count.items);
    char text[96];
    std::snprintf(text, sizeof text, "%.1f %% (%.1f to %.1f)", 100 * share, 100 * range.low, 100 * range.high);
    return text;
}

std::string tally_text(const tasks_outcome& found, const std::string& numerics_id, bool colour) {
    text_table table({"TASK", "ITEMS", "CORRECT", "ACCURACY (95 %)"});
    const auto row = [&table](const std::string& name, const task_tally::count& count) {
        table.add({name, std::to_string(count.items), std::to_string(count.correct), share_text(count)});
    };
    for (const auto& [kind, count] : found.tally.kinds)
        row(kind, count);
    row("all", found.tally.all);
    char line[128];
    std::snprintf(line, sizeof line, "%.1f tokens per answer, ", found.tally.tokens_per_answer());
    return table.print(colour) + line + numerics_id + "\n";
}

result<exit_code> run_tasks(const tasks_options& options, command_context& context) {
    const auto text = read_text_file(options.file, task_file_bytes_max);
    if (!text)
        return tl::unexpected(text.error());
    const auto tasks = parse_tasks(*text, options.file);
    if (!tasks)
        return tl::unexpected(tasks.error());
    auto runtime = load_runtime(options.model, context);
    if (!runtime)
        return tl::unexpected(runtime.error());
    const auto& all = context.settings.values;
    const auto in_flight = static_cast<std::size_t>(std::min(all.batch.max_sequences, all.server.max_queue));
    const auto found = task_runner(**runtime, options, in_flight).run(*tasks, watch_interrupt());
    end_eval_progress();
    if (!found)
        return tl::unexpected(found.error());
    const auto& numerics_id = (*runtime)->identity().numerics_id;
    const auto printed = context.json ? print_json(tally_json(*found, numerics_id))
                                      : print_text(tally_text(*found, numerics_id, context.colour));
    if (!printed)
        return tl::unexpected(printed.error());
    return found->interrupted ? exit_interrupted : exit_done;
}

constexpr const char* footer_text =
    "Each line of the file is one JSON object: {\"prompt\": ..., \"answer\": ...}, and \"task\" where answers are to "
    "be\n"
    "counted by kind too. The prompt is one user turn in the model's chat template; the answer is generated greedily "
    "and\n"
    "is right when it equals the expected one byte for byte after white space at both ends was removed from both.\n"
    "The interval is Wilson's. Ctrl-C: the answers that are complete are counted, exit code 130.";

} // namespace

void add_eval_tasks_command(command_line& line, CLI::App& eval) {
    auto options = std::make_shared<tasks_options>();
    CLI::App& command = line.add(eval, "tasks", "how many questions the model answers exactly as expected",
                                 [options](command_context& context) { return run_tasks(*options, context); });
    add_model_option(command, options->model);
    command.add_option("--tasks", options->file, "questions and answers, one JSON object a line")
        ->required()
        ->type_name("FILE");
    command.add_option("--max-tokens", options->max_tokens, "longest answer; default: sampling.max_tokens")
        ->check(CLI::Range(1, 1 << 20))
        ->type_name("N");
    command.footer(footer_text);
}

} // namespace moira
