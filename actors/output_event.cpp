#include "actors/output_event.hpp"

namespace moira {

output_event refused(std::uint64_t tag, const error& why) {
    generation_result outcome;
    outcome.reason = finish_reason::error;
    outcome.failure = why;
    output_event event;
    event.tag = tag;
    event.finished = std::move(outcome);
    return event;
}

}  // namespace moira
