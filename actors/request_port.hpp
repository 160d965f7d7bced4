#pragma once

#include "actors/runtime_statistics.hpp"
#include "actors/text_question.hpp"
#include "core/batch/generation_input.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace moira {

/// What a gateway's server wants of the runtime behind it. Called on the server's thread; must not block. Answers come
/// through the server's deliver functions, from any thread.
class request_port {
public:
    virtual ~request_port() = default;

    /// Starts a request; `tag` is unique for the life of the server. Exactly one event with `finished` follows, unless
    /// it is cancelled because its connection is gone: then nobody listens any more.
    virtual void submit(std::uint64_t tag, std::shared_ptr<const generation_input> input) = 0;

    /// Stops a request; it still gets its last event. Unknown tags are ignored.
    virtual void cancel(std::uint64_t tag) = 0;

    /// Asks for statistics; answered by deliver_statistics with the same ticket.
    virtual void request_statistics(std::uint64_t ticket) = 0;

    /// Ends a part of the runtime as a crash would. Called only where the limits allow faults.
    virtual void inject_fault(const std::string& part) = 0;
    /// Asks the tokenizer; answered by deliver_text with the same ticket.
    virtual void request_text(std::uint64_t ticket, text_question question) = 0;

    /// Counters for final replies.
    virtual expert_store_statistics expert_statistics() const = 0;
};

} // namespace moira
