// Questions and answers of `moira eval tasks`, one JSON object a line.
#include "core/evaluate/task_list.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    const auto tasks = moira::parse_tasks(text, "fuzz.jsonl");
    if (!tasks)
        return 0;
    moira::task_tally tally;
    std::size_t line = 0;
    for (const auto& task : *tasks) {
        // In order, and each answer can be given: by the model that says exactly that, whatever stands around it.
        if (task.line <= line || task.answer.empty() || task.kind.size() > moira::task_kind_bytes_max)
            std::abort();
        line = task.line;
        tally.add(task, " " + task.answer + "\n", 1);
    }
    if (tasks->empty() || tally.all.correct != tasks->size() || tally.kinds.size() > moira::task_kinds_max)
        std::abort();
    return 0;
}
