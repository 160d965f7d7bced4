#pragma once

#include "actors/delivery_ledger.hpp"
#include "actors/moira/runtime_messages.hpp"

namespace moira {

/// Joins a delivery_ledger with the sinks themselves: monitors each while it has open requests and sends it what is
/// due. Owned by one actor, which passes its down messages on.
class delivery_desk {
public:
    void start(caf::local_actor* owner) { owner_ = owner; }

    /// Opens a request. When it cannot be opened the sink is told and nothing is returned.
    std::optional<std::uint64_t> open(const prompt_request& request, const text_sink_actor& sink);

    /// The number of the sink's open request.
    std::optional<std::uint64_t> number_of(std::uint64_t tag, const text_sink_actor& sink) const;

    void add(std::uint64_t number, const std::vector<token_id>& token_ids, const std::string& text);
    void grant(std::uint64_t number, std::uint32_t count);

    /// Sends the last message; tag and rest are filled in, what `last.rest` holds already comes behind.
    void close(std::uint64_t number, text_end last);

    /// Ends every open request with `why`.
    void fail_all(const error& why);

    /// A monitored actor has gone: numbers of its requests, which are forgotten. Empty: no sink.
    std::vector<std::uint64_t> lost(const caf::actor_addr& sink);

private:
    void send(const std::optional<delivery_ledger::delta>& due);
    void release_if_idle(std::uint64_t sink);

    caf::local_actor* owner_ = nullptr;
    delivery_ledger ledger_;
    std::map<caf::actor_addr, std::uint64_t> sink_numbers_;
    std::map<std::uint64_t, text_sink_actor> sinks_;
    std::uint64_t last_sink_ = 0;
};

/// The last message of a request that failed before it could be opened, or with its runtime.
text_end failed_end(std::uint64_t tag, const error& why);

} // namespace moira
