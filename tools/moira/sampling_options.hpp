#pragma once

#include "core/batch/generation_input.hpp"

#include <CLI/CLI.hpp>

namespace moira {

/// Adds -n, --temperature and all others that decide on an answer; `input` must live as long as `command`.
void add_sampling_options(CLI::App& command, generation_input& input);

} // namespace moira
