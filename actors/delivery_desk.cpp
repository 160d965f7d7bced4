#include "actors/delivery_desk.hpp"

namespace moira {

text_end failed_end(std::uint64_t tag, const error& why) {
    text_end last;
    last.tag = tag;
    last.finish_reason = "error";
    last.code = describe(why.code).name;
    last.message = why.message.empty() ? std::string(describe(why.code).advice) : why.message;
    return last;
}

std::optional<std::uint64_t> delivery_desk::open(const prompt_request& request, const text_sink_actor& sink) {
    const auto [known, is_new] = sink_numbers_.try_emplace(sink.address(), last_sink_ + 1);
    const auto sink_number = known->second;
    if (is_new) {
        sinks_.emplace(++last_sink_, sink);
        owner_->monitor(sink);
    }
    const auto number = ledger_.open(sink_number, request.tag, request.credit);
    if (number)
        return *number;
    caf::anon_send(sink, failed_end(request.tag, number.error()));
    release_if_idle(sink_number);
    return std::nullopt;
}

std::optional<std::uint64_t> delivery_desk::number_of(std::uint64_t tag, const text_sink_actor& sink) const {
    const auto known = sink_numbers_.find(sink.address());
    return known == sink_numbers_.end() ? std::nullopt : ledger_.number_of(known->second, tag);
}

void delivery_desk::send(const std::optional<delivery_ledger::delta>& due) {
    if (due)
        caf::anon_send(sinks_.at(due->of.sink), text_delta{due->of.tag, due->content.token_ids, due->content.text});
}

void delivery_desk::add(std::uint64_t number, const std::vector<token_id>& token_ids, const std::string& text) {
    send(ledger_.add(number, token_ids, text));
}

void delivery_desk::grant(std::uint64_t number, std::uint32_t count) {
    send(ledger_.grant(number, count));
}

void delivery_desk::close(std::uint64_t number, text_end last) {
    auto closed = ledger_.close(number);
    if (!closed)
        return;
    auto& held = closed->content;
    last.tag = last.rest.tag = closed->of.tag;
    held.token_ids.insert(held.token_ids.end(), last.rest.token_ids.begin(), last.rest.token_ids.end());
    last.rest.token_ids = std::move(held.token_ids);
    last.rest.text.insert(0, held.text);
    caf::anon_send(sinks_.at(closed->of.sink), std::move(last));
    release_if_idle(closed->of.sink);
}

void delivery_desk::fail_all(const error& why) {
    for (const auto number : ledger_.open_numbers())
        close(number, failed_end(0, why));
}

std::vector<std::uint64_t> delivery_desk::lost(const caf::actor_addr& sink) {
    const auto known = sink_numbers_.find(sink);
    if (known == sink_numbers_.end())
        return {};
    auto numbers = ledger_.forget(known->second);
    sinks_.erase(known->second);
    sink_numbers_.erase(known);
    return numbers;
}

/// A sink without requests is forgotten, so that a host may use one sink per request for years.
void delivery_desk::release_if_idle(std::uint64_t sink) {
    if (ledger_.has_open(sink))
        return;
    const auto found = sinks_.find(sink);
    owner_->demonitor(found->second.address());
    sink_numbers_.erase(found->second.address());
    sinks_.erase(found);
}

} // namespace moira
