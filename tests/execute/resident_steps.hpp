#pragma once

#include "tests/execute/test_engine.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace moira {

/// Brings every routed expert into memory.
void load_all(engine& model);

/// `sequences` sequences, each with rows [first, first + count) of a text of its own, in pages that lie apart. Logits
/// are wanted of the last row of each, or of all.
step_plan batch(const engine& model, std::int32_t sequences, std::int32_t first, std::int32_t count, bool all);

/// A prompt, then a few decode steps, of so many sequences.
std::vector<step_plan> text_of(const engine& model, std::int32_t sequences);

/// Tokens and hashes of all samples.
std::vector<std::string> outcome_of(engine& model, const step_plan& plan);

/// The same, of a step that asks the host layer by layer, and of one that does not: both check that it is so.
std::vector<std::string> layer_by_layer(engine& model, const step_plan& plan);
std::vector<std::string> resident(engine& model, const step_plan& plan);

engine_options small_pages();

} // namespace moira
