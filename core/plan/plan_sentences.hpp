#pragma once

#include "core/plan/model_plan.hpp"

#include <cstdint>
#include <string>

namespace moira {

/// "12 GiB", "1.4 GiB", "640 MiB": two digits for people, not exact.
std::string bytes_text(std::uint64_t bytes);

/// "about 5 minutes", "about 50 seconds", "2 hours": a round number for people.
std::string duration_text(double seconds);

/// "0.8", "12", "230": two digits.
std::string speed_text(double tok_s);

/// How long the words of an answer take at a speed. English text of today's tokenizers has about 1.3 tokens a word.
double answer_seconds(double tok_s, int words);

/// The plan in a sentence: "0.8 tokens/s: a 200-word answer takes about 5 minutes; 12 GiB more memory would make it 50
/// seconds." Or why it does not run.
std::string plan_sentence(const model_plan& plan);

} // namespace moira
