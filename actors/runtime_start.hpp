#pragma once

#include "actors/runtime_parts.hpp"
#include "actors/supervisor.hpp"

namespace moira {

/// What a supervisor needs to start a runtime on a loaded model, from the settings. `compute_threads`: of the model's
/// pool. Errors: those of the tokenizer and of the file of API keys.
result<supervisor_options> supervisor_options_of(const settings& all, const std::shared_ptr<engine>& model,
                                                 std::uint32_t compute_threads, const log_function& log);

} // namespace moira
