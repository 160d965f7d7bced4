#pragma once

#include "core/batch/generation_request.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// News about one request for whoever submitted it, under the number that the submitter chose.
struct output_event {
    std::uint64_t tag = 0;
    std::vector<emitted_token> tokens;
    std::string tail_text;
    std::optional<generation_result> finished;  ///< last event of this tag
};

/// All news of one step for one sink: one message per step and sink, never one per token.
struct output_batch {
    std::vector<output_event> events;
};

/// The only event of a request that was never accepted.
output_event refused(std::uint64_t tag, const error& why);

}  // namespace moira
